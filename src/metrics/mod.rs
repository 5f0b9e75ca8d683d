//! What monitoring sees: the metrics, their names, and their text.
//!
//! A metric exists once, in [`names`]; [`counters`] says which counter of a thread becomes which.
//! A [`Page`] is made afresh for every scrape, from numbers that somebody else has gathered:
//! nothing here counts. Names and units follow the Prometheus conventions: seconds, bytes, `_total`
//! for what only grows.

pub mod counters;
pub mod dashboard;
pub mod http;
pub mod names;

use crate::stats::histogram::{OPEN_END_NS, doublings_ns};
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

/// Alert rules for Prometheus, as YAML.
pub const ALERTS: &str = include_str!("alerts.yml");

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the service starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Times by how long they were, in seconds.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
}

/// Labels of a sample: names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// The answer to one scrape.
#[derive(Debug)]
pub struct Page {
    common: Vec<LabelPair>,
    families: Vec<MetricFamily>,
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

impl Page {
    /// An empty page whose samples will all have the labels `common`.
    pub fn new(common: Labels<'_>) -> Self {
        let common = common.iter().map(|(name, value)| pair(name, value)).collect();
        Self { common, families: Vec::new() }
    }

    /// Adds a number. Samples of one metric may come in any order, with different labels.
    pub fn add(&mut self, metric: &Metric, labels: Labels<'_>, value: f64) {
        let mut sample = self.sample(labels);
        if metric.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            sample.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            sample.set_gauge(gauge);
        }
        self.family(metric).mut_metric().push(sample);
    }

    /// Adds one 0 or 1 for each of `states`, 1 for the one that holds, with the state as `label`.
    pub fn add_state(&mut self, metric: &Metric, label: &str, states: &[&str], holds: &str) {
        for state in states {
            self.add(metric, &[(label, state)], f64::from(u8::from(*state == holds)));
        }
    }

    /// Adds times: `counts` are ends of buckets in nanoseconds and how many times were below that
    /// and not below the one before. They are shown by doublings.
    pub fn add_times(
        &mut self,
        metric: &Metric,
        labels: Labels<'_>,
        counts: &[(u64, u64)],
        sum_ns: u64,
    ) {
        let below = |end: u64| counts.iter().filter(|(e, _)| *e <= end).map(|(_, n)| n).sum();
        let buckets = doublings_ns().map(|end| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(end as f64 / 1e9);
            bucket.set_cumulative_count(below(end));
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(below(OPEN_END_NS));
        histogram.set_sample_sum(sum_ns as f64 / 1e9);
        let mut sample = self.sample(labels);
        sample.set_histogram(histogram);
        self.family(metric).mut_metric().push(sample);
    }

    fn sample(&self, labels: Labels<'_>) -> Sample {
        let own = labels.iter().map(|(name, value)| pair(name, value));
        Sample::from_label(self.common.iter().cloned().chain(own).collect())
    }

    fn family(&mut self, metric: &Metric) -> &mut MetricFamily {
        let at = self.families.iter().position(|family| family.name() == metric.name);
        let at = at.unwrap_or_else(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            self.families.push(family);
            self.families.len() - 1
        });
        &mut self.families[at]
    }

    /// The page in Prometheus's text format, version 0.0.4, sorted by name. Families without
    /// samples are not in it.
    pub fn text(mut self) -> String {
        self.families.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        // Writing to memory cannot fail, and what the encoder refuses (a family without a name or
        // samples) is never made.
        let _ = TextEncoder::new().encode(&self.families, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_cumulative_seconds() {
        let mut page = Page::new(&[("device", "ublkb0")]);
        let counts = [(300, 2), (320, 1), (1000, 4), (OPEN_END_NS, 3)];
        page.add_times(names::COMMIT_SECONDS, &[], &counts, 5_000_000_000);
        let text = page.text();
        for line in [
            "# TYPE uswap_commit_seconds histogram",
            "uswap_commit_seconds_bucket{device=\"ublkb0\",le=\"0.000000256\"} 0",
            "uswap_commit_seconds_bucket{device=\"ublkb0\",le=\"0.000000512\"} 3",
            "uswap_commit_seconds_bucket{device=\"ublkb0\",le=\"0.000001024\"} 7",
            "uswap_commit_seconds_bucket{device=\"ublkb0\",le=\"+Inf\"} 10",
            "uswap_commit_seconds_sum{device=\"ublkb0\"} 5",
            "uswap_commit_seconds_count{device=\"ublkb0\"} 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn samples_of_one_metric_stand_together_and_values_are_escaped() {
        let mut page = Page::new(&[]);
        page.add(names::REQUESTS, &[("op", "read")], 3.0);
        page.add(names::INFO, &[("policy", "a\"b\n")], 1.0);
        page.add(names::REQUESTS, &[("op", "write")], 4.0);
        let text = page.text();
        assert_eq!(text.matches("# TYPE uswap_requests_total counter").count(), 1);
        assert!(text.contains("{op=\"read\"} 3\nuswap_requests_total{op=\"write\"} 4\n"), "{text}");
        assert!(text.contains("policy=\"a\\\"b\\n\""), "{text}");
    }

    #[test]
    fn exactly_one_state_holds() {
        let mut page = Page::new(&[]);
        page.add_state(names::POOL_LEVEL, "level", &["plenty", "low"], "low");
        let text = page.text();
        assert!(text.contains("{level=\"plenty\"} 0\n"), "{text}");
        assert!(text.contains("{level=\"low\"} 1\n"), "{text}");
    }
}
