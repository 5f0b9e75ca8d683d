//! What is refused, and whether the refusal helps.

use uswap_policy::{PRESETS, Policy, Settings, VICTIMS};

#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let error = Settings::parse(text).expect_err("must be refused").to_string();
    for part in parts {
        assert!(error.contains(part), "no \"{part}\" in: {error}");
    }
    assert!(!error.contains('\n'), "one line: {error}");
}

#[test]
fn names_give_presets_victims_or_both() {
    let named = |name: &str| Settings::named(name).expect("known");
    assert_eq!(named("sieve"), named("balanced/sieve"));
    assert_eq!(named("dense/lru"), Settings { victim: "lru".into(), ..named("dense") });
    for (preset, _) in PRESETS {
        for (victim, _) in VICTIMS {
            Policy::new(named(&format!("{preset}/{victim}"))).expect("settings agree");
        }
    }
}

#[test]
fn unknown_names_list_the_known_ones() {
    for name in ["fast", "fast/sieve", "", "balanced/"] {
        let error = Settings::named(name).expect_err("unknown").to_string();
        let missing = if name == "balanced/" { &[][..] } else { PRESETS };
        for known in missing.iter().map(|p| p.0).chain(VICTIMS.iter().map(|v| v.0)) {
            assert!(error.contains(known), "{error}");
        }
    }
    refused("base = 'quick'", &["base", "quick", "balanced, dense, low-latency, spill-early"]);
    refused("base = 3", &["base", "balanced"]);
    refused("base = 'dense'\nvictim = 'lifo'", &["victim", "lifo", "s3-fifo"]);
    refused("base = 'dense'\nvictim = 1", &["victim", "sieve"]);
}

#[test]
fn a_file_says_only_what_differs() {
    let text = "base = 'dense'\n[spill]\nidle_seconds = 'none'\ngib_per_day = 7\n";
    let settings = Settings::parse(text).expect("good");
    assert_eq!((settings.spill.idle_seconds, settings.spill.gib_per_day), (None, Some(7)));
    assert_eq!(settings.victim, "size-aware");
}

#[test]
fn each_bad_key_is_named_with_what_would_be_right() {
    let bad = |section: &str, line: &str, parts: &[&str]| {
        refused(&format!("base = 'balanced'\n[{section}]\n{line}"), parts);
    };
    bad("watermarks", "band_permille = 0", &["watermarks.band_permille", "flaps", "1 to 200"]);
    bad("watermarks", "low_permille = 20", &["watermarks.low_permille", "31", "at least 48"]);
    bad("watermarks", "min_permille = 130", &["watermarks.low_permille", "at least 147"]);
    bad("spill", "mib_per_second = -5", &["spill.mib_per_second: -5", "give no spill", "1 to"]);
    bad("spill", "gib_per_day = 0", &["spill.gib_per_day: 0", "give no spill", "\"none\""]);
    bad("spill", "idle_seconds = 10", &["spill.idle_seconds", "min_age_seconds 60", "at least 60"]);
    bad("spill", "promote_reads = 4", &["spill.promote_reads", "1 to 3"]);
    bad("spill", "huge_straight = 1", &["spill.huge_straight", "true or false"]);
    bad("spill", "mib_per_second = 'some'", &["\"some\"", "\"none\""]);
    bad("spill", "min_age_seconds = 'none'", &["spill.min_age_seconds", "whole number"]);
    bad(
        "recompress",
        "idle_seconds = 7200",
        &["recompress.idle_seconds", "age_tick_seconds", "38"],
    );
    bad("compact", "start_permille = 50", &["compact.start_permille", "stop_permille 50", "51"]);
    bad("pressure", "critical_full_permille = 90", &["critical_full_permille", "at least 101"]);
    bad("pressure", "critical_available_permille = 40", &["tight_available_permille", "41"]);
    bad("spill", "speed = 3", &["spill.speed", "no such key", "gib_per_day"]);
    bad("disk", "speed = 3", &["disk", "no such key or section", "watermarks"]);
    refused("spill = 3", &["spill", "[spill]"]);
    refused("victim = 'lru'\n[time]\nstep_ms =", &["line 3", "TOML"]);
    refused("victim = 'lru'", &["missing field", "base = \"balanced\""]);
}

#[test]
fn refused_settings_change_nothing() {
    let settings = Settings::named("balanced").expect("known");
    let mut policy = Policy::new(settings.clone()).expect("settings agree");
    let mut bad = Settings::named("dense").expect("known");
    bad.watermarks.band_permille = 0;
    assert!(policy.reconfigure(bad.clone()).is_err());
    assert_eq!(policy.settings(), &settings);
    assert!(Policy::new(bad).is_err());
    policy.reconfigure(Settings::named("dense").expect("known")).expect("settings agree");
    assert_eq!(policy.settings().victim, "size-aware");
}
