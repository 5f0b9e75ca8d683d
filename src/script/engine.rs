//! Rhai, as far as a policy needs it: whole numbers, text, arrays and maps; no modules, no clock,
//! no files, no randomness. Every call is bounded in operations, depth and memory.

use crate::sys::region::{Held, held_bytes};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicIteratorPackage, BasicMapPackage, LogicPackage,
    Package,
};
use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, FuncArgs, Map, Scope};
use std::cell::Cell;
use uswap_policy::{Page, Tier};

/// Longest script.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Most operations of a call.
pub const CALL_OPERATIONS_MAX: u64 = 20_000;
/// Most operations that all questions about pages may take together.
const LOAD_OPERATIONS_MAX: u64 = 10_000_000;
/// Most bytes that a script holds, what it keeps from step to step included.
pub const HELD_BYTES_MAX: usize = 128 << 10;
/// Calls within calls: the mover's stack is small.
const CALL_LEVELS_MAX: usize = 8;
/// Blocks and brackets within each other, for the same reason.
const EXPRESSION_DEPTH_MAX: usize = 24;
/// Most elements of an array or map, those within it counted: one operation may copy all of them.
const ELEMENTS_MAX: usize = 128;
/// Longest text.
const STRING_BYTES_MAX: usize = 256;
/// Most functions, and names in one of them.
const FUNCTIONS_MAX: usize = 64;

/// What to do about most of what does not compile.
const CONSTANTS: &str = "write functions only, constants too: fn limit() { 10 }; see rhai.rs/book";

/// What a script may define: name, parameters.
const ENTRIES: [(&str, &str); 6] = [
    ("settings", ""),
    ("rank", "page"),
    ("meet", "page"),
    ("idle", "page"),
    ("state", ""),
    ("tick", "view, plan"),
];

thread_local! {
    /// Operations that this thread's script may still take.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// Why a script was refused or given up.
#[derive(Debug)]
pub struct Fault {
    /// Line of the script.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// A page as a script sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen(pub Page);

/// A script's answer to a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It goes.
    pub demote: bool,
    /// Reads to remember of it from now on.
    pub reads: Option<u8>,
}

/// A script that compiles.
#[derive(Debug)]
pub struct Program {
    engine: Engine,
    ast: AST,
    place: String,
    text: String,
}

impl Program {
    /// Compiles a script and looks at what it defines. Asks it nothing.
    pub fn compile(place: &str, text: &str) -> Result<Self, Fault> {
        let fault =
            |line, what: String, remedy: &str| Err(Fault { line, what, remedy: remedy.into() });
        if text.len() > TEXT_BYTES_MAX {
            let what = format!("{} bytes, at most {TEXT_BYTES_MAX}", text.len());
            return fault(None, what, "give a shorter script");
        }
        let engine = engine();
        let ast = match engine.compile(text) {
            Ok(ast) => ast,
            Err(e) => {
                return fault(e.position().line(), e.err_type().to_string(), CONSTANTS);
            }
        };
        let program = Self { engine, ast, place: place.to_owned(), text: text.to_owned() };
        if let Some((name, ..)) = program.ast.iter_literal_variables(true, true).next() {
            let what = format!("{name} stands outside of functions, which do not see it");
            return fault(None, what, CONSTANTS);
        }
        for (name, parameters) in ENTRIES {
            let count = parameters.split(',').filter(|name| !name.is_empty()).count();
            let wrong = program
                .ast
                .iter_functions()
                .find(|function| function.name == name && function.params.len() != count);
            if wrong.is_some() {
                let line = program.line_of(name);
                let what = format!("{name} takes other parameters");
                return fault(line, what, &format!("write fn {name}({parameters})"));
            }
        }
        if !ENTRIES.iter().any(|(name, _)| program.defines(name)) {
            let names: Vec<&str> = ENTRIES.iter().map(|(name, _)| *name).collect();
            let remedy = format!("define one of {}", names.join(", "));
            return fault(None, "defines nothing that is asked for".into(), &remedy);
        }
        Ok(program)
    }

    /// Whether there is a function of this name.
    pub fn defines(&self, name: &str) -> bool {
        self.ast.iter_functions().any(|function| function.name == name)
    }

    /// Where the script is from.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The line that a function begins in.
    pub fn line_of(&self, name: &str) -> Option<usize> {
        let begins = |line: &str| {
            let rest = line.trim_start().strip_prefix("private ").unwrap_or(line.trim_start());
            let rest = rest.strip_prefix("fn ").map(str::trim_start);
            rest.and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.trim_start().starts_with('('))
        };
        self.text.lines().position(begins).map(|at| at + 1)
    }

    /// Calls a function, with `this` if there is something to keep. Bounded; whoever calls says
    /// where memory comes from ([`Held::within`]).
    pub fn call(
        &self,
        name: &str,
        this: Option<&mut Dynamic>,
        arguments: impl FuncArgs,
    ) -> Result<Dynamic, Fault> {
        let options = CallFnOptions::new().eval_ast(false);
        let options = match this {
            Some(this) => options.bind_this_ptr(this),
            None => options,
        };
        let done = self.engine.call_fn_with_options(
            options,
            &mut Scope::new(),
            &self.ast,
            name,
            arguments,
        );
        done.map_err(|e| self.explain(name, *e))
    }

    /// Asks many questions: together they are bounded too, in memory each.
    pub fn load<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        LEFT.set(LOAD_OPERATIONS_MAX);
        let done = Held::on_heap().within(work);
        LEFT.set(u64::MAX);
        done
    }

    /// What `settings()` says, as TOML, and the preset below it.
    pub fn settings(&self, base: &str) -> Result<(String, String), Fault> {
        if !self.defines("settings") {
            return Ok((base.to_owned(), format!("base = {base:?}\n")));
        }
        self.load(|| {
            let said = self.call("settings", None, ())?;
            let wrong = |what: &str| Fault {
                line: self.line_of("settings"),
                what: format!("settings: {what}"),
                remedy: "return a map: #{ base: \"balanced\", spill: #{ min_age_seconds: 60 } }"
                    .into(),
            };
            let keys = said.try_cast::<Map>().ok_or_else(|| wrong("it returns no map"))?;
            let base = match keys.get("base") {
                None => base.to_owned(),
                Some(name) => name.clone().into_string().map_err(|_| wrong("base is no text"))?,
            };
            let text = toml(&keys, &base).ok_or_else(|| wrong("a value is of no use there"))?;
            Ok((base, text))
        })
    }

    /// A fault of a function that returned something else than it should.
    pub fn returned(&self, name: &str, value: &Dynamic, wanted: &str) -> Fault {
        let what = format!("{name} returned {}", shown(value));
        Fault { line: self.line_of(name), what, remedy: format!("return {wanted}") }
    }

    fn explain(&self, name: &str, mut error: EvalAltResult) -> Fault {
        let line = error.position().line();
        while let EvalAltResult::ErrorInFunctionCall(_, _, inner, _) = error {
            error = *inner;
        }
        let line = error.position().line().or(line).or_else(|| self.line_of(name));
        let _ = error.take_position();
        let (what, remedy) = match &error {
            EvalAltResult::ErrorTerminated(why, _) if why.is_int() => (
                format!("more than {HELD_BYTES_MAX} bytes"),
                "keep less, and end every loop that makes something",
            ),
            EvalAltResult::ErrorTerminated(..) => (
                format!("more than {LOAD_OPERATIONS_MAX} operations for all kinds of pages"),
                "say less about each page",
            ),
            EvalAltResult::ErrorTooManyOperations(_) => (
                format!("more than {CALL_OPERATIONS_MAX} operations"),
                "end every loop, and do less",
            ),
            other => (other.to_string(), "see README.md, \"A policy in a script\""),
        };
        Fault { line, what: format!("{name}: {what}"), remedy: remedy.into() }
    }
}

/// A value for people, not longer than a line.
fn shown(value: &Dynamic) -> String {
    match value.as_int() {
        Ok(number) => number.to_string(),
        Err("()") => "nothing".to_owned(),
        Err(kind) => format!("a value of type {kind}"),
    }
}

/// Sections and keys as a file of settings would have them. None: a value is of another type.
fn toml(keys: &Map, base: &str) -> Option<String> {
    let line = |name: &str, value: &Dynamic| {
        let word = match (value.as_int(), value.as_bool()) {
            (Ok(number), _) => number.to_string(),
            (_, Ok(flag)) => flag.to_string(),
            _ => format!("{:?}", value.clone().into_string().ok()?),
        };
        Some(format!("{name:?} = {word}\n"))
    };
    let mut text = format!("base = {base:?}\n");
    for (name, value) in keys.iter().filter(|(name, value)| *name != "base" && !value.is_map()) {
        text += &line(name, value)?;
    }
    for (section, keys) in keys.iter().filter(|(_, value)| value.is_map()) {
        text += &format!("[{:?}]\n", section.as_str());
        for (name, value) in keys.as_map_ref().ok()?.iter() {
            text += &line(name, value)?;
        }
    }
    Some(text)
}

fn engine() -> Engine {
    let mut engine = Engine::new_raw();
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);
    BasicIteratorPackage::new().register_into_engine(&mut engine);
    BasicArrayPackage::new().register_into_engine(&mut engine);
    BasicMapPackage::new().register_into_engine(&mut engine);
    engine
        .set_max_operations(CALL_OPERATIONS_MAX)
        .set_max_call_levels(CALL_LEVELS_MAX)
        .set_max_expr_depths(EXPRESSION_DEPTH_MAX, EXPRESSION_DEPTH_MAX)
        .set_max_string_size(STRING_BYTES_MAX)
        .set_max_array_size(ELEMENTS_MAX)
        .set_max_map_size(ELEMENTS_MAX)
        .set_max_functions(FUNCTIONS_MAX)
        .set_max_variables(FUNCTIONS_MAX)
        // They would stay.
        .set_max_strings_interned(0)
        .set_strict_variables(true)
        .set_fail_on_invalid_map_property(true);
    ["eval", "print", "debug"].into_iter().for_each(|word| _ = engine.disable_symbol(word));
    // Called for every operation: the only way to stop a library that cannot be told "no memory".
    engine.on_progress(|_| {
        if held_bytes() > HELD_BYTES_MAX {
            return Some(Dynamic::from_int(0));
        }
        let left = LEFT.get();
        LEFT.set(left.saturating_sub(1));
        (left == 0).then_some(Dynamic::UNIT)
    });
    pages(&mut engine);
    engine
}

/// What a script can ask of a page and say about it.
fn pages(engine: &mut Engine) {
    let number = |number: u8| i64::from(number);
    engine
        .register_type_with_name::<Seen>("page")
        .register_get("age_ticks", move |page: &mut Seen| number(page.0.age_ticks))
        .register_get("reads", move |page: &mut Seen| number(page.0.mark.reads))
        .register_get("last_touch_was_read", |page: &mut Seen| page.0.mark.last_touch_was_read)
        .register_get("bytes", |page: &mut Seen| i64::from(page.0.bytes))
        .register_get("tier", |page: &mut Seen| match page.0.tier {
            Tier::Lz4 => "lz4",
            Tier::Zstd => "zstd",
            Tier::Huge => "huge",
        })
        .register_get("can_be_denser", |page: &mut Seen| page.0.denser != uswap_policy::Denser::No);
    let reads = |reads: i64| Some(reads.clamp(0, uswap_policy::READS_MAX.into()) as u8);
    engine
        .register_type_with_name::<Answer>("answer")
        .register_fn("keep", Answer::default)
        .register_fn("keep", move |to: i64| Answer { demote: false, reads: reads(to) })
        .register_fn("demote", || Answer { demote: true, reads: None })
        .register_fn("demote", move |to: i64| Answer { demote: true, reads: reads(to) });
}
