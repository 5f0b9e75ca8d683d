//! A step's view and plan as a script sees them, and what it makes of the plan.

use super::Script;
use super::engine::{Fault, Program};
use crate::sys::region::Held;
use rhai::{Array, Dynamic, Map};
use uswap_policy::{
    Adviser, Broken, Level, Machine, Plan, Policy, Pool, Settings, Since, Spill, View,
};

/// A whole number of a plan: its place, its value, and how to set it.
struct Field {
    section: &'static str,
    key: &'static str,
    get: fn(&Plan) -> u64,
    set: fn(&mut Plan, u64),
}

macro_rules! fields {
    ($($section:literal $key:literal $($name:ident).+: $type:ty;)*) => {
        &[$(Field {
            section: $section,
            key: $key,
            get: |plan| plan.$($name).+.into(),
            set: |plan, value| plan.$($name).+ = <$type>::try_from(value).unwrap_or(<$type>::MAX),
        }),*]
    };
}

/// What a script may change.
const FIELDS: &[Field] = fields! {
    "spill" "bytes" spill.bytes: u64;
    "spill" "age_min_ticks" spill.age_min_ticks: u8;
    "spill" "huge_bytes" spill.huge_bytes: u64;
    "recompress" "pages" recompress.pages: u64;
    "recompress" "age_min_ticks" recompress.age_min_ticks: u8;
    "promote" "pages" promote.pages: u64;
    "promote" "reads_min" promote.reads_min: u8;
    "" "clean_bytes" clean_bytes: u64;
    "" "compact_bytes" compact_bytes: u64;
    "" "next_ms" next_ms: u32;
};
const SECTIONS: [&str; 3] = ["spill", "recompress", "promote"];
/// The only one that is no number.
const TRAIN: &str = "train";

fn number(value: u64) -> Dynamic {
    Dynamic::from_int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn map<const N: usize>(entries: [(&str, Dynamic); N]) -> Map {
    entries.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

fn numbers<const N: usize>(entries: [(&str, u64); N]) -> Map {
    entries.into_iter().map(|(key, value)| (key.into(), number(value))).collect()
}

fn plan_map(plan: &Plan) -> Map {
    let of = |section: &'static str| {
        let fields = FIELDS.iter().filter(move |field| field.section == section);
        fields.map(move |field| (field.key.into(), number((field.get)(plan))))
    };
    let mut all: Map = of("").collect();
    for section in SECTIONS {
        all.insert(section.into(), of(section).collect::<Map>().into());
    }
    all.insert(TRAIN.into(), plan.train.into());
    all
}

/// Takes a script's plan over. The error says what is wrong with it.
fn read_plan(all: &Map, plan: &mut Plan) -> Result<(), String> {
    let is_field = |section: &str, key: &str| {
        FIELDS.iter().any(|field| field.section == section && field.key == key)
    };
    for (key, value) in all {
        let section = SECTIONS.contains(&key.as_str());
        if !section && key != TRAIN && !is_field("", key) {
            return Err(format!("has {key}, which it was not given with"));
        }
        let keys = value.as_map_ref().ok().filter(|_| section);
        if let Some(other) = keys.iter().flat_map(|keys| keys.keys()).find(|k| !is_field(key, k)) {
            return Err(format!("has {key}.{other}, which it was not given with"));
        }
    }
    for field in FIELDS {
        let value = match field.section {
            "" => all.get(field.key).cloned(),
            section => {
                all.get(section).and_then(|keys| keys.as_map_ref().ok()?.get(field.key).cloned())
            }
        };
        let dot = if field.section.is_empty() { "" } else { "." };
        let value = value
            .and_then(|value| value.as_int().ok())
            .ok_or_else(|| format!("has no whole number as {}{dot}{}", field.section, field.key))?;
        // Less than nothing is nothing.
        (field.set)(plan, u64::try_from(value).unwrap_or(0));
    }
    let train = all.get(TRAIN).and_then(|train| train.as_bool().ok());
    plan.train = train.ok_or_else(|| format!("has no true or false as {TRAIN}"))?;
    Ok(())
}

/// Bytes of the pool's pages by age: untouched for 0 ticks, 1, 2 to 3, 4 to 7, and so on.
fn bytes_by_age(view: &View) -> Array {
    let mut sums = [0_u64; 9];
    for (page, pages) in view.slots.cells() {
        let class = (u8::BITS - page.age_ticks.leading_zeros()) as usize;
        sums[class] += pages * u64::from(page.bytes);
    }
    sums.into_iter().map(number).collect()
}

fn view_map(view: &View, plan: &Plan) -> Map {
    let View { now_ms, age_tick, pool, spill, machine, slots, since } = view;
    let level = match plan.level {
        Level::Plenty => "plenty",
        Level::Low => "low",
        Level::Min => "min",
        Level::Full => "full",
    };
    map([
        ("now_ms", number(*now_ms)),
        ("age_tick", number(*age_tick)),
        ("level", level.into()),
        ("pressure", plan.pressure.name().into()),
        ("pool", pool_map(pool).into()),
        ("spill", spill.as_ref().map_or(Dynamic::UNIT, |spill| spill_map(spill).into())),
        ("machine", machine_map(machine).into()),
        ("since", since_map(since).into()),
        ("pages", number(slots.pages())),
        ("bytes", number(slots.bytes())),
        ("bytes_by_age", bytes_by_age(view).into()),
    ])
}

fn pool_map(pool: &Pool) -> Map {
    numbers([
        ("capacity_bytes", pool.capacity_bytes),
        ("used_bytes", pool.used_bytes),
        ("resident_bytes", pool.resident_bytes),
        ("waste_bytes", pool.waste_bytes),
        ("free_bytes", pool.free_bytes()),
    ])
}

fn spill_map(spill: &Spill) -> Map {
    let mut all = numbers([
        ("capacity_bytes", spill.capacity_bytes),
        ("used_bytes", spill.used_bytes),
        ("live_bytes", spill.live_bytes),
        ("segment_bytes", spill.segment_bytes),
        ("written_bytes", spill.written_bytes),
        ("free_bytes", spill.free_bytes()),
    ]);
    all.insert("failing".into(), spill.failing.into());
    all
}

fn machine_map(machine: &Machine) -> Map {
    numbers([
        ("total_bytes", machine.total_bytes),
        ("available_bytes", machine.available_bytes),
        ("some_permille", machine.some_permille.into()),
        ("full_permille", machine.full_permille.into()),
    ])
}

fn since_map(since: &Since) -> Map {
    numbers([
        ("written_pages", since.written_pages),
        ("stored_bytes", since.stored_bytes),
        ("refused_writes", since.refused_writes),
        ("pool_reads", since.pool_reads.iter().sum()),
        ("spill_reads", since.spill_reads),
        ("spilled_pages", since.spilled_pages),
        ("spilled_bytes", since.spilled_bytes),
        ("recompressed_pages", since.recompressed_pages),
    ])
}

/// What a script keeps from step to step, before the first.
fn first_state(program: &Program) -> Result<Dynamic, Fault> {
    if program.defines("state") { program.call("state", None, ()) } else { Ok(Map::new().into()) }
}

/// Has a script change a plan.
fn ask(program: &Program, state: &mut Dynamic, view: &View, plan: &mut Plan) -> Result<(), Fault> {
    let arguments = (view_map(view, plan), plan_map(plan));
    let said = program.call("tick", Some(state), arguments)?;
    let wanted = "the plan that was given, with other numbers";
    let Ok(all) = said.as_map_ref() else {
        return Err(program.returned("tick", &said, wanted));
    };
    read_plan(&all, plan).map_err(|what| Fault {
        line: program.line_of("tick"),
        what: format!("tick returned a plan that {what}"),
        remedy: format!("return {wanted}"),
    })
}

/// Lets `tick` have some steps of a machine that is idle, short of room, and short of memory: most
/// mistakes show at once.
pub fn try_out(program: &Program, settings: &Settings) -> Result<(), Fault> {
    if !program.defines("tick") {
        return Ok(());
    }
    let mut policy = Policy::new(settings.clone()).expect("settings are checked");
    program.load(|| {
        let mut state = first_state(program)?;
        for (step, (free_permille, full_permille)) in
            [(900, 0), (900, 0), (100, 0), (100, 300), (0, 300), (500, 0)].into_iter().enumerate()
        {
            let view = sample(step as u64, free_permille, full_permille);
            let mut plan = policy.tick(&view);
            ask(program, &mut state, &view, &mut plan)?;
        }
        Ok(())
    })
}

/// A machine of 8 GiB with a pool of 1 GiB, and from the third step on with a spill.
fn sample(step: u64, free_permille: u64, full_permille: u16) -> View {
    const GIB: u64 = 1 << 30;
    let used_bytes = GIB / 1000 * (1000 - free_permille);
    let pool =
        Pool { capacity_bytes: GIB, used_bytes, resident_bytes: used_bytes, ..Pool::default() };
    let spill = Spill { capacity_bytes: 4 * GIB, segment_bytes: 1 << 20, ..Spill::default() };
    let machine = Machine {
        total_bytes: 8 * GIB,
        available_bytes: 4 * GIB,
        some_permille: full_permille,
        full_permille,
    };
    View {
        now_ms: step * 1000,
        age_tick: step,
        pool,
        spill: (step > 1).then_some(spill),
        machine,
        ..View::default()
    }
}

/// Advises a policy as a script says, until that fails.
#[derive(Debug)]
pub struct ScriptAdviser {
    script: Script,
    state: Dynamic,
    held: Held,
}

impl ScriptAdviser {
    /// An adviser with a state of its own, if the script says anything about plans.
    pub fn new(script: &Script) -> Option<Self> {
        let program = &script.0.program;
        if !program.defines("tick") {
            return None;
        }
        let mut held = Held::in_region();
        let state = held.within(|| first_state(program));
        // It was there when the script was tried out.
        let state = state.unwrap_or(Dynamic::UNIT);
        Some(Self { script: script.clone(), state, held })
    }
}

impl Adviser for ScriptAdviser {
    fn advise(&mut self, view: &View, plan: &mut Plan) -> Result<(), Broken> {
        let Self { script, state, held } = self;
        held.within(|| {
            ask(&script.0.program, state, view, plan).map_err(|fault| {
                script.give_up(&fault);
                Broken
            })
        })
    }
}
