//! `uswap trace info` and `export`: what they say of a trace, and that they say nothing of one that
//! is not whole.

#[path = "cli/program.rs"]
mod program;

use program::{accepted, refused, str, text, uswap};
use std::fs;
use std::path::Path;
use uswap::trace::{Event, Header, Kind, Source, Stored, Writer};
use uswap::units::SlotIndex;

/// Two seconds of a page that is written, compressed, made denser, read and discarded, and of one
/// that is written and read.
fn trace() -> Vec<u8> {
    let header = Header {
        uswap_version: "9.9".into(),
        service: "default".into(),
        slots: 1024,
        pool_bytes: 64 << 20,
        codec: "lz4".into(),
        policy: "balanced".into(),
        ..Header::default()
    };
    let mut writer = Writer::new(Vec::new(), &header).expect("memory");
    for (time_us, slot, kind) in [
        (10, 5, Kind::Write),
        (10, 5, Kind::Stored(Stored::Compressed { bytes: 1000 })),
        (20, 6, Kind::Write),
        (30, 5, Kind::Denser { bytes: 800 }),
        (40, 6, Kind::Read(Source::Staged)),
        (50, 5, Kind::Read(Source::Dense)),
        (60, 5, Kind::Discard { count: 1 }),
        (70, 0, Kind::Machine { available_mib: 512, some_permille: 15, full_permille: 3 }),
    ] {
        writer.push(&Event { time_us, slot: SlotIndex(slot), kind }).expect("fits");
    }
    writer.finish(2_000_000, 7, 1).expect("memory").0
}

#[test]
fn info_says_what_is_in_a_trace() {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("t.trace");
    fs::write(&path, trace()).expect("written");
    let path = path.to_str().expect("path");
    let said = accepted(&["trace", "info", path, "--json"]);
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    for (pointer, wanted) in [
        ("/header/slots", 1024),
        ("/events", 8),
        ("/totals/writes", 2),
        ("/reads", 2),
        ("/stored", 1),
        ("/totals/compressed_bytes", 1000),
        ("/totals/denser_bytes", 800),
        ("/distinct_slots", 2),
        ("/dropped", 7),
        ("/gaps", 1),
        ("/duration_us", 2_000_000),
        ("/file_bytes", trace().len() as u64),
    ] {
        assert_eq!(said.pointer(pointer), Some(&wanted.into()), "{pointer} in {said}");
    }
    assert_eq!(said["writes_per_second"], 1.0);
    let said = accepted(&["trace", "info", path]);
    for line in ["dropped        7", "writes         2 (1/s)", "compressed to  1000 bytes"] {
        assert!(said.lines().any(|l| l == line), "{line} in\n{said}");
    }
}

#[test]
fn export_makes_a_row_of_each_event() {
    let dir = tempfile::tempdir().expect("directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("path").to_owned();
    fs::write(at("t.trace"), trace()).expect("written");
    let words = ["trace", "export", &at("t.trace"), "--format", "csv", "-o", &at("t.csv")];
    let output = uswap(&words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("t.csv: 8 rows\n"), "{output:?}");
    assert!(text(&output.stderr).contains("7 events were dropped"), "{output:?}");
    let table = fs::read_to_string(at("t.csv")).expect("written");
    assert_eq!(
        table,
        "time_us,slot,event,bytes,count,available_mib,some_permille,full_permille\n\
         10,5,write,,,,,\n\
         10,5,stored_compressed,1000,,,,\n\
         20,6,write,,,,,\n\
         30,5,denser,800,,,,\n\
         40,6,read_staged,,,,,\n\
         50,5,read_dense,,,,,\n\
         60,5,discard,,1,,,\n\
         70,0,machine,,,512,15,3\n"
    );
    assert!(refused(&words, 1).contains("not there yet"));
    assert_eq!(fs::read_to_string(at("t.csv")).expect("as it was"), table);
}

#[test]
fn nothing_is_said_of_a_trace_that_is_not_whole() {
    let dir = tempfile::tempdir().expect("directory");
    let whole = trace();
    let damaged = |at: usize| {
        let mut file = whole.clone();
        file[at] ^= 1;
        file
    };
    let cases = [
        ("cut", whole[..whole.len() - 1].to_vec(), "ends in the middle; copy it again, or record"),
        ("other", b"a text file, not a trace".to_vec(), "is not a trace; name a file that"),
        ("foreign", damaged(8), "of version 0, and this uswap reads 1; use the uswap that"),
        ("flipped", damaged(whole.len() / 2), "is damaged at byte"),
        ("longer", [&whole[..], b"x"].concat(), "something follows the trailer; copy it again"),
        ("empty", Vec::new(), "is not a trace; name a file"),
    ];
    for (name, file, part) in cases {
        let path = dir.path().join(name);
        fs::write(&path, file).expect("written");
        both_refuse(&path, part);
    }
    both_refuse(&dir.path().join("none"), "No such file or directory");
}

/// Both commands say why, in a line, and nothing else.
fn both_refuse(path: &Path, part: &str) {
    let (path, out) = (str(path), path.with_extension("csv"));
    for words in [&["trace", "info", path][..], &["trace", "export", path, "-o", str(&out)]] {
        let error = refused(words, 1);
        assert!(error.contains(part), "{words:?}: {error}");
        assert!(!out.exists(), "{words:?} made a table");
    }
}
