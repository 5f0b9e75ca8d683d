//! Settings as a file would say them, key by key: what a service says it runs with, and what a file
//! is compared with.

use super::Settings;
use std::collections::BTreeMap;

impl Settings {
    /// The value of every key that has one, exactly: sizes are bytes.
    pub fn words(&self) -> BTreeMap<String, String> {
        // Every field by its name: one that is new does not compile until it is here.
        let Self {
            name,
            id,
            size,
            pool,
            queues,
            depth,
            staging,
            helpers,
            poll_us,
            codec,
            policy,
            target,
            spill,
            spill_size,
            copy,
            unsafe_spill,
            run_dir,
            socket,
            metrics,
            swapon,
            priority,
            discard,
            standby,
            unsafe_no_lock,
        } = self;
        let all = [
            ("name", Some(name.clone())),
            ("id", id.map(|n| n.to_string())),
            ("size", Some(size.to_string())),
            ("pool", Some(pool.to_string())),
            ("queues", queues.map(|n| n.to_string())),
            ("depth", Some(depth.to_string())),
            ("staging", Some(staging.to_string())),
            ("helpers", Some(helpers.to_string())),
            ("poll-us", Some(poll_us.to_string())),
            ("codec", Some(codec.name().to_owned())),
            ("policy", Some(policy.name.clone())),
            ("target", Some(target.name().to_owned())),
            ("spill", spill.as_ref().map(|path| path.display().to_string())),
            ("spill-size", Some(spill_size.to_string())),
            ("copy", Some(copy.name().to_owned())),
            ("unsafe-spill", Some(unsafe_spill.to_string())),
            ("run-dir", Some(run_dir.display().to_string())),
            ("socket", Some(socket.display().to_string())),
            ("metrics", Some(metrics.to_string())),
            ("swapon", Some(swapon.to_string())),
            ("priority", priority.map(|n| n.to_string())),
            ("discard", Some(discard.to_string())),
            ("standby", Some(standby.to_string())),
            ("unsafe-no-lock", Some(unsafe_no_lock.to_string())),
        ];
        all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::check;
    use crate::config::load::{self, Keys};
    use std::path::Path;

    #[test]
    fn every_key_has_its_word() {
        let root = tempfile::tempdir().expect("directory");
        std::fs::create_dir(root.path().join("proc")).expect("proc");
        let memory = "MemTotal: 99999999 kB\nMemAvailable: 99999999 kB\n";
        std::fs::write(root.path().join("proc/meminfo"), memory).expect("meminfo");
        // The examples are of a service with all there is.
        let text: String =
            Keys::WORDS.iter().zip(Keys::EXAMPLES).map(|(k, v)| format!("{k} = {v}\n")).collect();
        let keys = load::parse(Path::new("x"), &text).expect("keys");
        let words = check::settings(root.path(), keys).expect("settings").words();
        let mut known: Vec<&str> = Keys::WORDS.to_vec();
        known.sort_unstable();
        assert_eq!(words.keys().map(String::as_str).collect::<Vec<_>>(), known);
        assert_eq!((&*words["spill-size"], &*words["discard"]), ("17179869184", "true"));
    }
}
