//! Scripts that guide policies: what they say is what is done, whatever they do the promises of a
//! policy hold, and they never have memory from the system while the mover waits for them.

use std::time::Instant;
use uswap::script::Script;
use uswap::sys::heap::{Heap, seal_thread, sealed_calls, unseal_thread};
use uswap::sys::region::outside_calls;
use uswap_policy::*;

#[path = "script/any.rs"]
mod any;
#[path = "../policy/tests/model/mod.rs"]
mod model;

use model::{Random, World, any_page};

#[global_allocator]
static HEAP: Heap = Heap;

const LRU: &str = "fn rank(page) { page.age_ticks }";
const CLOCK: &str = "fn meet(page) { if page.reads > 0 { keep(0) } else { demote() } }";
const SWAP_AWARE: &str = "
    fn rank(page) {
        let age = page.age_ticks / 2;
        if page.last_touch_was_read && page.reads <= 1 { return 255 - age; }
        if page.last_touch_was_read && page.reads == 2 { return min(age + 60, 127); }
        age
    }
    fn meet(page) { demote(page.reads) }
    fn idle(page) { if rank(page) >= 128 { true } else { () } }";
const SHIPPED: &str = include_str!("../policy/scripts/read-twice.rhai");

fn compile(text: &str) -> Script {
    Script::compile("test.rhai", text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refused(text: &str) -> String {
    Script::compile("test.rhai", text).expect_err(text).to_string()
}

/// A view of a pool that is somewhat low, so that a script is asked.
fn low() -> View {
    let (gib, mib) = (1 << 30, 1 << 20);
    let used_bytes = gib / 100 * 89;
    let pool = Pool { capacity_bytes: gib, used_bytes, resident_bytes: gib, ..Pool::default() };
    let spill = Spill { capacity_bytes: gib, segment_bytes: mib, ..Spill::default() };
    let mut view = View { pool, spill: Some(spill), ..View::default() };
    let mut random = Random(3);
    (0..1000).for_each(|_| view.slots.add(&any_page(&mut random)));
    view
}

#[test]
fn what_a_script_says_as_a_built_in_one_is_decided_like_that() {
    for (name, text) in [("lru", LRU), ("clock", CLOCK)] {
        let script = compile(text);
        for seed in 0..8 {
            let built_in = Policy::new(Settings::named(name).expect("known")).expect("checked");
            let mut worlds = [built_in, script.policy()].map(|policy| {
                let mut world = World::with(policy, 4000, 0, 1 << 30);
                world.fill(&mut Random(seed));
                let used = world.view.pool.used_bytes;
                world.view.pool.capacity_bytes = used * (101 + seed) / 100;
                world
            });
            for step in 0..40 {
                let [one, two] = worlds.each_mut().map(|world| world.step(1000));
                assert_eq!(one, two, "{name}, seed {seed}, step {step}");
            }
            let [one, two] = &worlds;
            assert!(one.spilled > 0, "{name}: nothing was decided");
            for (slot, (one, two)) in one.slots.iter().zip(&two.slots).enumerate() {
                assert_eq!((one.place, one.touch), (two.place, two.touch), "{name}: slot {slot}");
            }
        }
    }
}

#[test]
fn a_tick_changes_what_it_may_and_remembers() {
    let script = compile(
        "fn state() { #{ n: 0 } }
         fn tick(view, plan) {
             this.n += 1;
             if view.level == \"low\" && view.spill.failing == false {
                 plan.spill.bytes = 4096 * this.n;
                 plan.spill.age_min_ticks = 7;
             }
             plan.train = false;
             plan.recompress.pages = view.bytes_by_age.len() - 9;
             plan
         }",
    );
    let mut policy = script.policy();
    let mut view = low();
    for n in 1..50_u64 {
        view.now_ms += 1000;
        let plan = policy.tick(&view);
        assert_eq!((plan.level, plan.spill.bytes), (Level::Low, 4096 * n), "{plan:?}");
        assert_eq!((plan.spill.age_min_ticks, plan.recompress.pages, plan.train), (7, 0, false));
    }
    let other = script.policy().tick(&view);
    assert_eq!(other.spill.bytes, 4096, "every policy has a state of its own");
    assert_eq!(script.broken(), None);
}

#[test]
fn while_writes_wait_for_room_nobody_is_asked() {
    let script = compile("fn tick(view, plan) { plan.spill.bytes = 0; plan }");
    let mut policy = script.policy();
    let mut view = low();
    assert_eq!(policy.tick(&view).spill.bytes, 0, "it is asked while room is low");
    view.now_ms += 1000;
    view.since.refused_writes = 1;
    let plan = policy.tick(&view);
    assert!(plan.spill.urgent && plan.spill.bytes > 0, "{plan:?}");
}

#[test]
fn what_is_wrong_is_refused_with_its_line_and_what_to_do() {
    for (text, line, words) in [
        ("fn rank(page) {\n  1 +\n}", "test.rhai:3", ""),
        ("fn rank(page) {\n\n  page.aeg }", "test.rhai:3: rank:", "aeg"),
        ("fn helper(x) {\n x.y }\nfn rank(page) { helper(page.reads) }", "test.rhai:2: rank:", "y"),
        ("\nfn rank(page) { pgae.reads }", "test.rhai:2", "pgae"),
        ("fn rank(page) { 256 }", "test.rhai:1: rank returned 256", "0 to 255"),
        ("fn rank(page) { -1 }", "test.rhai:1: rank returned -1", "0 to 255"),
        ("fn rank(page) { }", "", "broken"),
        ("fn meet(page) { true }", "test.rhai:1: meet returned", "keep()"),
        ("fn idle(page) { 1 }", "test.rhai:1: idle returned 1", "true, false"),
        ("fn rank(page, x) { 1 }", "test.rhai:1: rank takes other parameters", "fn rank(page)"),
        ("let x = 3; fn rank(page) { 1 }", "x stands outside of functions", "fn limit()"),
        ("fn rnak(page) { 1 }", "nothing that is asked for", "rank"),
        ("", "nothing that is asked for", "rank"),
        ("fn tick(view, plan) { }", "test.rhai:1: tick returned nothing", "plan"),
        ("fn tick(view, plan) { plan.spil = 3; plan }", "test.rhai:1: tick", "spil"),
        (
            "fn tick(view, plan) { plan.spill.bytes = true; plan }",
            "test.rhai:1: tick",
            "spill.bytes",
        ),
        ("fn tick(view, plan) { plan.spill.byte = 1; plan }", "test.rhai:1: tick", "byte"),
        (
            "fn tick(view, plan) { view.now_ms / (view.bytes - view.bytes); plan }",
            "test.rhai:1: tick",
            "",
        ),
        ("fn tick(view, plan) { view.spill.failing; plan }", "test.rhai:1: tick", ""),
        (
            "fn settings() { #{ base: \"balancd\" } }",
            "test.rhai:1: settings: base",
            "balanced, dense",
        ),
        (
            "\nfn settings() { #{ spill: #{ idel: 1 } } }",
            "test.rhai:2: settings: spill.idel",
            "has",
        ),
        ("fn settings() { #{ scan: #{ pages_per_second: 1 } } }", "scan.pages_per_second", "10000"),
        ("fn settings() { 3 }", "test.rhai:1: settings", "#{ base"),
        ("fn settings() { #{ victim: \"best\" } }", "victim", "lru"),
        ("fn rank(page) { eval(\"1\") }", "test.rhai:1", "eval"),
        ("fn rank(page) { import \"x\" as y; 1 }", "test.rhai:1", ""),
    ] {
        if words == "broken" {
            assert_eq!(compile(text).broken(), None, "() is a rank");
            continue;
        }
        let said = refused(text);
        assert!(said.contains(line) && said.contains(words), "{text}\n{said}");
        assert!(said.contains("; "), "no remedy: {said}");
    }
    let long = format!("fn rank(page) {{ 1 }} // {}", "x".repeat(70_000));
    assert!(refused(&long).contains("at most 65536"));
}

/// Bodies that never end, or make more and more.
const ENDLESS: [&str; 12] = [
    "loop { }",
    "let x = 0; while true { x += 1; }",
    "endless(1)",
    "let a = []; loop { a += [a]; }",
    "let a = []; loop { a.push(1); }",
    "let a = []; a.pad(1000000000, 7);",
    "let m = #{}; loop { m.x = [m, m]; }",
    "let m = #{}; let i = \"k\"; loop { i += \"k\"; m[i] = i; }",
    "let s = \"x\"; loop { s += s; }",
    "for i in 0..9000000000000 { }",
    "let a = [0]; loop { a = [a, a]; }",
    "let a = []; a.pad(100, \"0123456789012345678901234567890123456789\"); loop { a = a + []; }",
];

#[test]
fn what_does_not_end_is_refused_when_it_is_read() {
    for body in ENDLESS {
        for head in
            ["rank(page)", "meet(page)", "idle(page)", "settings()", "state()", "tick(view, plan)"]
        {
            let tick = if head == "state()" { "fn tick(view, plan) { plan }" } else { "" };
            let text = format!("fn endless(x) {{ endless(x + 1) }}\nfn {head} {{ {body} }} {tick}");
            let begin = Instant::now();
            let said = refused(&text);
            assert!(said.contains("test.rhai:"), "{text}\n{said}");
            assert!(begin.elapsed().as_secs() < 20, "{text}: {:?}", begin.elapsed());
        }
    }
    // Each call is short, all of them are not.
    let slow = "fn rank(page) { for i in 0..5000 { } 1 }";
    assert!(refused(slow).contains("operations for all kinds of pages"), "{}", refused(slow));
}

/// Runs `tick` until it breaks; what it said, and the longest step in microseconds.
fn until_broken(body: &str, view: &View) -> (String, u128) {
    let text = format!(
        "fn endless(x) {{ endless(x + 1) }}
         fn state() {{ #{{ n: 0, kept: [] }} }}
         fn tick(view, plan) {{ this.n += 1; if this.n > 10 {{ {body} }} plan }}"
    );
    let script = compile(&text);
    let mut policy = script.policy();
    let mut base = Policy::new(Settings::named("balanced").expect("known")).expect("checked");
    let (mut view, mut longest) = (view.clone(), 0);
    for step in 1..400 {
        view.now_ms += 1000;
        let begin = Instant::now();
        let plan = policy.tick(&view);
        longest = longest.max(begin.elapsed().as_micros());
        assert_eq!(plan, base.tick(&view), "step {step}: the base decides");
        if let Some(why) = script.broken() {
            return (why.to_owned(), longest);
        }
    }
    panic!("it did not break: {text}");
}

#[test]
fn a_script_that_breaks_later_leaves_its_base_and_never_asks_the_system_for_memory() {
    let view = low();
    let keeps = "let x = []; x.pad(100, \"012345678901234567890123456789012345678901234567\"); \
                 for s in x { this.kept.push(s + \"x\"); }";
    let deep = "let m = #{}; m.a = #{}; m.a.b = #{}; loop { m.a.b.c = [m.a.b]; }";
    let wrong = "plan.nothing = 1;";
    for body in ENDLESS.into_iter().chain([keeps, deep, wrong, "return 1;", "this.n / 0;"]) {
        let before = outside_calls();
        let (why, longest_us) = until_broken(body, &view);
        assert!(
            why.starts_with("test.rhai:3: tick") || why.starts_with("test.rhai:1: tick"),
            "{why}"
        );
        assert_eq!(outside_calls(), before, "{body}");
        println!("{longest_us:6} us  {why}");
    }
}

#[test]
fn one_that_breaks_says_its_line_and_one_that_does_not_end_that_of_its_function() {
    // Rhai gives errors that end a script the position of the call, which here has none.
    for (body, line) in [
        ("plan.nothing / 0;", 5),
        ("throw 1;", 5),
        ("loop { }", 3),
        ("for i in 0..9000000000000 { }", 3),
        ("loop { this.kept += [this.kept]; }", 3),
    ] {
        let (why, _) = until_broken(&format!("\n\n {body}\n"), &low());
        assert!(why.starts_with(&format!("test.rhai:{line}: tick: ")), "{body}: {why}");
    }
}

#[test]
fn a_script_in_the_mover_makes_no_heap_call_of_the_system() {
    let script = compile(SHIPPED);
    let (mut policy, mut view) = (script.policy(), low());
    let keeps = compile(
        "fn state() { #{ last: [], words: #{} } }
         fn tick(view, plan) {
             this.last.push(view.now_ms);
             if this.last.len() > 20 { this.last.shift(); }
             let key = \"k\";
             for i in 0..view.now_ms / 1000 % 9 { key += \"k\"; }
             this.words[key] = \"a text that is too long to be kept in place\" + key;
             plan
         }",
    );
    let mut other = keeps.policy();
    let mut random = Random(1);
    let pages: Vec<Page> = (0..1000).map(|_| any_page(&mut random)).collect();
    let (before, outside) = (sealed_calls(), outside_calls());
    seal_thread();
    for _ in 0..2000 {
        view.now_ms += 1000;
        policy.tick(&view);
        other.tick(&view);
        for page in &pages {
            std::hint::black_box(policy.judge(page));
        }
    }
    unseal_thread();
    assert_eq!((sealed_calls() - before, outside_calls() - outside), (0, 0));
    assert_eq!((script.broken(), keeps.broken()), (None, None));
}

#[test]
fn what_a_script_leaves_is_freed_with_its_policies() {
    // Many times what the region holds.
    let (before, view) = (outside_calls(), low());
    for n in 0..200 {
        let text = format!(
            "fn state() {{ let a = [\"longer than what is in place, {n}\"]; a.pad(100, 7); a }}
             fn tick(view, plan) {{ this[1] = this[0] + \"x\"; plan }}"
        );
        let script = compile(&text);
        for _ in 0..20 {
            script.policy().tick(&view);
        }
        assert_eq!(script.broken(), None);
    }
    assert_eq!(outside_calls(), before);
}

/// The deepest of a family of scripts that is not refused.
fn deepest(text: impl Fn(usize) -> String) -> Script {
    let compile = |depth| Script::compile("test.rhai", &text(depth)).ok();
    (1..40).rev().find_map(compile).expect("one of them is shallow enough")
}

/// The mover's stack is 256 KiB, and some of it is in use.
#[test]
fn the_deepest_script_fits_the_movers_stack() {
    type Body = fn(usize) -> String;
    let bodies: [Body; 4] = [
        |n| format!("{}f(x + 1){}", "(1 + ".repeat(n), ")".repeat(n)),
        |n| format!("{}f(x + 1){}", "if x > 0 { ".repeat(n), " } else { 0 }".repeat(n)),
        |n| format!("{}f(x + 1){}", "[#{ a: ".repeat(n), " }]".repeat(n)),
        |n| format!("{}f(x + 1){}", "loop { let y = x; ".repeat(n), " }".repeat(n)),
    ];
    for body in bodies {
        let script = deepest(|n| {
            format!(
                "fn f(x) {{ {} }}
                 fn state() {{ #{{ n: 0 }} }}
                 fn tick(view, plan) {{ this.n += 1; if this.n > 10 {{ f(1); }} plan }}",
                body(n)
            )
        });
        let mut policy = script.policy();
        let run = move || {
            let mut view = low();
            for _ in 0..20 {
                view.now_ms += 1000;
                policy.tick(&view);
            }
        };
        let thread = std::thread::Builder::new().stack_size(192 << 10).spawn(run);
        thread.expect("a thread").join().expect("it ends");
        let why = script.broken().expect("too deep");
        assert!(why.contains("overflow"), "{why}");
    }
}

/// Not a test of anything but that it ends: for numbers.
#[test]
#[ignore = "measures"]
fn speed() {
    let view = low();
    let mut random = Random(1);
    let pages: Vec<Page> = (0..4096).map(|_| any_page(&mut random)).collect();
    let begin = Instant::now();
    let scripts =
        [("lru", LRU), ("clock", CLOCK), ("swap-aware", SWAP_AWARE), ("read-twice", SHIPPED)];
    let scripts = scripts.map(|(name, text)| (name, compile(text)));
    println!("{:?} to read each script", begin.elapsed() / 4);
    for (name, script) in &scripts {
        let built_in = Settings::named(name).ok().map(|s| Policy::new(s).expect("checked"));
        for (who, policy) in [("built in", built_in), ("script", Some(script.policy()))] {
            let Some(mut policy) = policy else { continue };
            let mut view = view.clone();
            view.pool.used_bytes = view.pool.capacity_bytes;
            let (mut judged, mut longest) = (0_u64, 0);
            let begin = Instant::now();
            let mut ticks = std::time::Duration::ZERO;
            while begin.elapsed().as_millis() < 500 {
                view.now_ms += 1000;
                let tick = Instant::now();
                policy.tick(&view);
                ticks += tick.elapsed();
                longest = longest.max(tick.elapsed().as_micros());
                for page in pages.iter().cycle().take(100_000) {
                    std::hint::black_box(policy.judge(page));
                }
                judged += 100_000;
            }
            let rate = judged as f64 / (begin.elapsed() - ticks).as_secs_f64() / 1e6;
            println!(
                "{name:12} {who:10} {rate:6.1} million pages a second, tick {longest} us at most"
            );
        }
    }
}
