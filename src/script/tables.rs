//! What a script says of pages: every question is asked once, when the script is read.

use super::engine::{Answer, Fault, Program, Seen};
use rhai::Dynamic;
use uswap_policy::{
    Aim, CELLS, Choice, Mark, PAGE_BYTES, Page, Settings, Threshold, Tier, Victim, cell_of,
    page_of, victim,
};

/// Answers by the cell of the page.
#[derive(Debug)]
pub struct Tables {
    /// Ranks: the highest goes first, none never does.
    ranks: Option<Box<[Option<u8>]>>,
    answers: Option<Box<[Answer]>>,
    /// Whether a page is idle; none: by its age.
    idle: Option<Box<[Option<bool>]>>,
}

impl Tables {
    /// Asks all there is to ask.
    pub fn of(program: &Program) -> Result<Self, Fault> {
        program.load(|| {
            Ok(Self {
                ranks: table(program, "rank", "0 to 255, or () for a page that stays", |value| {
                    match value.as_int() {
                        Ok(rank) => u8::try_from(rank).ok().map(Some),
                        Err(_) => value.is_unit().then_some(None),
                    }
                })?,
                answers: table(
                    program,
                    "meet",
                    "keep(), demote(), keep(READS) or demote(READS)",
                    |value| value.clone().try_cast::<Answer>(),
                )?,
                idle: table(program, "idle", "true, false, or () to go by its age", |value| {
                    match value.as_bool() {
                        Ok(idle) => Some(Some(idle)),
                        Err(_) => value.is_unit().then_some(None),
                    }
                })?,
            })
        })
    }

    /// Whether the script says which pages go first.
    pub const fn choose(&self) -> bool {
        self.ranks.is_some() || self.answers.is_some()
    }

    fn rank(&self, page: &Page) -> Option<u8> {
        self.ranks.as_ref().and_then(|ranks| ranks[cell_of(page)])
    }
}

/// The answers of one function, if the script has it.
fn table<T: Copy + Default>(
    program: &Program,
    name: &str,
    wanted: &str,
    read: impl Fn(&Dynamic) -> Option<T>,
) -> Result<Option<Box<[T]>>, Fault> {
    if !program.defines(name) {
        return Ok(None);
    }
    let mut answers = vec![T::default(); CELLS];
    for (cell, answer) in answers.iter_mut().enumerate() {
        let page = page_of(cell);
        // A page that is not compressed has one size.
        if page.tier == Tier::Huge && cell != cell_of(&Page { bytes: PAGE_BYTES as u16, ..page }) {
            continue;
        }
        let value = program.call(name, None, (Seen(page),))?;
        *answer = read(&value).ok_or_else(|| program.returned(name, &value, wanted))?;
    }
    Ok(Some(answers.into_boxed_slice()))
}

/// Chooses as a script said. What it left open the victim policy of its settings decides.
#[derive(Debug)]
pub struct ScriptVictim {
    tables: std::sync::Arc<Tables>,
    line: Threshold,
    below: Box<dyn Victim>,
}

impl ScriptVictim {
    /// One that has seen nothing yet.
    pub fn new(tables: std::sync::Arc<Tables>, settings: &Settings) -> Self {
        let below = victim(&settings.victim).expect("settings are checked");
        Self { tables, line: Threshold::default(), below }
    }
}

impl Victim for ScriptVictim {
    fn aim(&mut self, aim: &Aim<'_>) {
        let tables = &self.tables;
        if tables.ranks.is_some() {
            self.line.aim(aim, |page| tables.rank(page));
        } else if !tables.choose() {
            self.below.aim(aim);
        }
    }

    fn meet(&mut self, page: &Page) -> Choice {
        let tables = &self.tables;
        if !tables.choose() {
            return self.below.meet(page);
        }
        if tables.ranks.is_some() && !self.line.admits(page, |page| tables.rank(page)) {
            return Choice::KEEP;
        }
        let Some(answers) = &tables.answers else { return Choice::DEMOTE };
        let Answer { demote, reads } = answers[cell_of(page)];
        Choice { demote, mark: reads.map(|reads| Mark { reads, ..page.mark }) }
    }

    fn idle(&self, page: &Page, age_min_ticks: u8) -> bool {
        match &self.tables.idle {
            Some(idle) => idle[cell_of(page)].unwrap_or(page.age_ticks >= age_min_ticks),
            None if self.tables.choose() => page.age_ticks >= age_min_ticks,
            None => self.below.idle(page, age_min_ticks),
        }
    }
}
