//! Settings that ship with the package.

macro_rules! presets {
    ($($name:literal)*) => {
        /// Every preset: name and TOML text.
        pub const PRESETS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../presets/", $name, ".toml")))),*];
    };
}

presets! { "balanced" "dense" "low-latency" "spill-early" }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn every_preset_parses_and_differs_from_the_others() {
        let all = PRESETS.iter().map(|(name, _)| Settings::named(name).expect("it is shipped"));
        let all: alloc::vec::Vec<Settings> = all.collect();
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{}", PRESETS[i].0);
        }
    }
}
