# desc: the same as pressure with zram lz4 as swap, to compare
# requires: hog jq
# kernels: 6.12 new
# memory: 700
# seconds: 560
# smp: 2
# alone: yes
# measures: yes
# awake: yes
# disk: pages
# include: pressure.sh
set -- zram
. /vm/pressure.sh
