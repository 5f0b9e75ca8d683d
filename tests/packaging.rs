//! What the Debian package does around the program, with a program that only notes how it is
//! called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const SWAPS: &str = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";

/// Runs `prerm remove` in a machine with these services and lines of /proc/swaps, where `uswap`
/// ends with `status`; how it ended, and what was called.
fn removal(services: &[&str], swaps: &str, status: u8) -> (Output, String) {
    let dir = tempfile::tempdir().expect("directory");
    let at = |path: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().expect("has one")).expect("directory");
        path
    };
    for service in services {
        match service.strip_suffix('/') {
            Some(state) => fs::create_dir_all(at("run/uswap/x").with_file_name(state)),
            None => fs::write(at("run/uswap/x").with_file_name(service), ""),
        }
        .expect("service");
    }
    fs::write(at("proc/swaps"), format!("{SWAPS}{swaps}")).expect("swaps");
    let program = |name: &str, text: String| {
        fs::write(at("bin/x").with_file_name(name), text).expect("program");
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(at("bin/x").with_file_name(name), mode).expect("mode");
    };
    let log = dir.path().join("log");
    program("uswap", format!("#!/bin/sh\necho \"$@\" >>{}\nexit {status}\n", log.display()));
    program("sleep", "#!/bin/sh\n".into());
    let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb/prerm");
    let mut command = Command::new("sh");
    command.arg(script).arg("remove").env("PATH", path).env("DPKG_ROOT", dir.path());
    let output = command.output().expect("sh runs");
    (output, fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn removal_takes_down_whatever_left_a_socket_or_a_state() {
    let (output, calls) = removal(&["a.sock", "a.lock", "dead/", "b.log"], "", 0);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(calls, "down a\ndown dead\n");
    assert!(removal(&[], "/dev/sda2 partition 1 1 -2\n", 0).0.status.success());
}

#[test]
fn removal_is_refused_while_pages_are_wanted() {
    let (output, calls) = removal(&["dead/"], "", 1);
    assert_eq!((output.status.code(), calls.as_str()), (Some(1), &*"down dead\n".repeat(3)));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("the service dead cannot be stopped"), "{said}");
    let (output, _) = removal(&[], "/dev/ublkb0\tpartition\t1024\t512\t100\n", 0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/dev/ublkb0 is still in use as swap"), "{said}");
}
