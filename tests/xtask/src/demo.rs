//! `cargo xtask demo`: real memory swapped to uswap on a real kernel, in one command.

use crate::job::Job;
use crate::{Outcome, build, pages, run, setup};

/// Builds, captures, boots, swaps, verifies, and says so at each step.
pub fn demo() -> Outcome {
    println!("1. QEMU and a Debian kernel with ublk_drv (cached after the first time)");
    setup(&[])?;
    println!("2. building uswap and its measuring programs (release)");
    build(&[])?;
    println!("3. memory of programs that run here: what a swap device really gets to store");
    pages::capture()?;
    println!(
        "4. booting the newest kernel in a guest with 700 MiB; uswap serves its only swap area;"
    );
    println!(
        "   hog fills 700 MiB with that memory and goes over it three times, checking each page"
    );
    let job = Job::find("pressure", "new")?;
    run(&mut job.command()).map_err(|e| format!("the demo failed, see above: {e}"))?;
    println!("5. done: every page came back as it was written");
    println!("   compare with the kernel's own: cargo xtask vm pressure-zram");
    Ok(())
}
