# shellcheck shell=bash
# Where the VM tests keep kernels and answers to probes; sourced by setup and boot.
: "${USWAP_VM_DIR:=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/uswap-vm}"
export USWAP_VM_DIR
