//! The systemd unit that runs a service, as its cgroup tells.

use crate::config::under;
use std::path::Path;

/// What a person types to start the service `name` anew, whose process `pid` is: by the unit that
/// runs it, if one does.
pub fn restart_words(root: &Path, pid: u32, name: &str) -> String {
    let path = under(root, Path::new("/proc")).join(pid.to_string()).join("cgroup");
    let cgroup = std::fs::read_to_string(path).unwrap_or_default();
    let mut parts = cgroup.lines().filter_map(|line| line.rsplit('/').next());
    match parts.find(|part| part.starts_with("uswap@") && part.ends_with(".service")) {
        Some(unit) => format!("`systemctl restart {unit}`"),
        None => format!("`uswap down {name}` and `uswap up {name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_restarted_by_its_manager() {
        let root = tempfile::tempdir().expect("directory");
        let cgroup = |text: &str| {
            let dir = root.path().join("proc/7");
            std::fs::create_dir_all(&dir).expect("directory");
            std::fs::write(dir.join("cgroup"), text).expect("file");
            restart_words(root.path(), 7, "x")
        };
        let unit = cgroup("0::/uswap.slice/uswap@x.service\n");
        assert_eq!(unit, "`systemctl restart uswap@x.service`");
        assert_eq!(cgroup("0::/user.slice/a.scope\n"), "`uswap down x` and `uswap up x`");
        assert_eq!(restart_words(root.path(), 8, "y"), "`uswap down y` and `uswap up y`");
    }
}
