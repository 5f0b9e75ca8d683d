//! What all runs together say, as Markdown.

use super::metric::{METRICS, Metric};
use super::plot::digits;
use super::significance::{p_min, p_value};
use super::{Run, plot};
use crate::config::experiment::Experiment;
use std::fmt::Write;

/// Below this a difference is marked. One in twenty comparisons of equals is.
const NOTABLE_P: f64 = 0.05;

/// A metric of a variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Name of the variant.
    pub variant: String,
    /// Of each run that has one, smallest first.
    pub values: Vec<f64>,
}

impl Group {
    /// The middle value, or the mean of the two in the middle.
    pub fn median(&self) -> Option<f64> {
        let (low, high) = (self.values.len().checked_sub(1)? / 2, self.values.len() / 2);
        Some(f64::midpoint(self.values[low], self.values[high]))
    }
}

/// A metric of all variants.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Which.
    pub metric: &'static Metric,
    /// The variants, the first being what others are compared with.
    pub groups: Vec<Group>,
}

/// All metrics of which some run has more than nothing.
pub fn comparisons(experiment: &Experiment, runs: &[Run]) -> Vec<Comparison> {
    let group = |variant: &str, metric: &Metric| {
        let own = runs.iter().filter(|run| run.variant == variant);
        let mut values: Vec<f64> = own.filter_map(|run| metric.of(run)).collect();
        values.sort_by(f64::total_cmp);
        Group { variant: variant.to_owned(), values }
    };
    let all = METRICS.iter().map(|metric| {
        let groups = experiment.variants.iter().map(|variant| group(&variant.name, metric));
        Comparison { metric, groups: groups.collect() }
    });
    let says = |c: &Comparison| c.groups.iter().flat_map(|g| &g.values).any(|value| *value != 0.0);
    all.filter(says).collect()
}

/// `p` for a table: three digits, marked where notable.
fn shown_p(p: f64) -> String {
    let mark = if p < NOTABLE_P { " *" } else { "" };
    if p < 0.001 { format!("{p:.1e}{mark}") } else { format!("{p:.3}{mark}") }
}

fn table(comparison: &Comparison) -> String {
    let metric = comparison.metric;
    let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
    let good = metric.better.words();
    let mut text = format!("\n### {}{unit}\n", metric.name);
    if !good.is_empty() {
        let _ = writeln!(text, "{good}\n");
    } else {
        text.push('\n');
    }
    text +=
        "| variant | median | least | most | runs | ratio | p |\n|---|--:|--:|--:|--:|--:|--:|\n";
    let Some(reference) = comparison.groups.first() else { return text };
    for (at, group) in comparison.groups.iter().enumerate() {
        let or_none = |value: Option<f64>| value.map_or_else(|| "-".into(), digits);
        let median = group.median();
        let ratio = median.zip(reference.median()).map(|(own, other)| own / other);
        let ratio = ratio.filter(|ratio| at > 0 && ratio.is_finite());
        let p = p_value(&group.values, &reference.values).filter(|_| at > 0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} |",
            group.variant,
            or_none(median),
            or_none(group.values.first().copied()),
            or_none(group.values.last().copied()),
            group.values.len(),
            ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}")),
            p.map_or_else(|| "-".into(), shown_p)
        );
    }
    text
}

/// What was run, in words.
fn head(experiment: &Experiment, kernel: &str, version: &str) -> String {
    let workload = &experiment.workload;
    let mut text = format!(
        "# {}\n\nMade by `uswap experiment` (uswap {version}). Kernel {kernel}, {} CPUs, {} MiB of \
         RAM; {} runs of each variant, each in a guest of its own, by turns.\n\n\
         Workload: `{} {}`\n\n| variant | policy | flags of `uswap run` |\n|---|---|---|\n",
        experiment.title,
        experiment.cpus,
        experiment.memory_mib,
        experiment.repetitions,
        workload.kind,
        workload.flags.join(" ")
    );
    for variant in &experiment.variants {
        let policy = variant.policy.as_deref().unwrap_or("(as the flags say)");
        let _ = writeln!(text, "| {} | {policy} | `{}` |", variant.name, variant.flags.join(" "));
    }
    text
}

/// How to read the tables.
fn method(experiment: &Experiment, count: usize) -> String {
    let runs = experiment.repetitions as usize;
    let least = p_min(runs, runs).map_or_else(|| "-".into(), |p| format!("{p:.4}"));
    let reference = experiment.variants.first().map_or("", |variant| variant.name.as_str());
    let pairs = count * experiment.variants.len().saturating_sub(1);
    format!(
        "\nRatios are to **{reference}**. p is the two-sided exact Mann-Whitney U test against it: \
         the probability that chance alone deals the runs so far apart. With {runs} runs each the \
         smallest p there can be is {least}. * marks p below {NOTABLE_P}; of the {pairs} \
         comparisons below, one in twenty would be marked if nothing differed at all.\n"
    )
}

/// The whole report; the picture is the file `plot` beside it.
pub fn markdown(
    experiment: &Experiment,
    runs: &[Run],
    comparisons: &[Comparison],
    plot: &str,
) -> String {
    let of = |pointer: &str| {
        let said = runs.first().and_then(|run| run.after.pointer(pointer)?.as_str());
        said.unwrap_or("unknown").to_owned()
    };
    let mut text = head(experiment, &of("/kernel"), &of("/version"));
    let wanted = experiment.variants.len() * experiment.repetitions as usize;
    if runs.len() < wanted {
        let _ = writeln!(
            text,
            "\n**{} of {wanted} runs failed**; see their logs.",
            wanted - runs.len()
        );
    }
    text += &method(experiment, comparisons.len());
    let _ = writeln!(text, "\n![every run]({plot})");
    comparisons.iter().for_each(|comparison| text += &table(comparison));
    text
}

/// The picture that belongs to it.
pub fn picture(comparisons: &[Comparison]) -> String {
    plot::svg(comparisons)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    fn experiment() -> Experiment {
        let text = "repetitions = 4\n[workload]\nkind = \"scan\"\nmib = 9\nseconds = 1\n\
                    [[variant]]\nname = \"a\"\n[[variant]]\nname = \"b<c\"\npolicy = \"dense\"\n";
        let text = text.replace("b<c", "b+c");
        crate::config::experiment::parse(Path::new("x.toml"), &text).expect("good")
    }

    fn runs() -> Vec<Run> {
        let run = |variant: &str, repetition: u32, value: f64| Run {
            variant: variant.into(),
            repetition,
            workload: json!({"operations_per_second": value}),
            after: json!({
                "kernel": "7.3",
                "version": "0.1.0",
                "counters": {"read_spill_pages": 0}
            }),
            fullest: json!({}),
        };
        let mut all: Vec<Run> = (1..=4).map(|n| run("a", n, f64::from(n))).collect();
        all.extend((1..=4).map(|n| run("b+c", n, 10.0 + f64::from(n))));
        all
    }

    #[test]
    fn the_report_says_medians_spreads_and_how_sure_one_can_be() {
        let (experiment, runs) = (experiment(), runs());
        let comparisons = comparisons(&experiment, &runs);
        assert_eq!(comparisons.len(), 1, "what is nowhere or 0 everywhere is left out");
        let text = markdown(&experiment, &runs, &comparisons, "x.svg");
        assert!(text.contains("| a | 2.50 | 1.00 | 4.00 | 4 | - | - |"), "{text}");
        assert!(text.contains("| b+c | 12.5 | 11.0 | 14.0 | 4 | 5.000 | 0.029 * |"), "{text}");
        assert!(text.contains("smallest p there can be is 0.0286"), "{text}");
        assert!(
            text.contains("Kernel 7.3, 2 CPUs") && text.contains("| b+c | dense | `` |"),
            "{text}"
        );
        let part = markdown(&experiment, &runs[1..], &comparisons, "x.svg");
        assert!(part.contains("**1 of 8 runs failed**"), "{part}");
    }

    #[test]
    fn the_picture_has_a_point_for_each_run() {
        let comparisons = comparisons(&experiment(), &runs());
        let svg = picture(&comparisons);
        assert_eq!(svg.matches("<circle").count(), 8);
        assert!(svg.contains(">operations, 1/s (more is better)</text>"), "{svg}");
    }
}
