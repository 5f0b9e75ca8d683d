//! A real Prometheus that answers the dashboard's queries from scrapes of the past.

use super::chart::{Panel, Series};
use serde_json::Value;
use std::fmt::Write;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use uswap::error::{StartError, StartResult};

/// How long it may take to start.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Values asked for in each series.
const STEPS: f64 = 90.0;
/// What Grafana puts in for scrapes once a second.
const RATE_INTERVAL: &str = "5s";

fn fail(what: &str, e: &dyn std::fmt::Display) -> StartError {
    StartError::failure(format!("{what}: {e}"), "see tests/vm/setup for the tools")
}

/// Runs a program to its end; its output.
fn output(program: &Path, words: &[&str], dir: &Path) -> StartResult<Vec<u8>> {
    let name = program.display().to_string();
    let output = Command::new(program).args(words).current_dir(dir).output();
    let output = output.map_err(|e| fail(&name, &e))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(fail(&name, &String::from_utf8_lossy(&output.stderr))),
    }
}

/// A scrape as Prometheus would store it that took it from a machine called `guest`: every sample
/// with where it is from and when that was.
pub fn stamped(page: &str, seconds: f64) -> String {
    let mut text = String::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, rest)) = line.split_once('{') {
            let _ = writeln!(text, "{name}{{instance=\"guest\",job=\"uswap\",{rest} {seconds:.3}");
        }
    }
    text
}

/// `{{label}}` with what the label is.
fn legend(pattern: &str, labels: &Value) -> String {
    let mut text = String::new();
    for (i, part) in pattern.split("{{").enumerate() {
        match part.split_once("}}") {
            Some((label, rest)) if i > 0 => {
                text += labels[label].as_str().unwrap_or("");
                text += rest;
            }
            _ => text += part,
        }
    }
    text
}

/// The series in an answer, their times counted from `begin`.
fn series_of(answer: &Value, pattern: &str, begin: f64) -> Vec<Series> {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
    let point = |pair: &Value| Some((pair[0].as_f64()? - begin, number(&pair[1])?));
    let one = |found: &Value| Series {
        name: legend(pattern, &found["metric"]).trim().to_owned(),
        points: found["values"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(point)
            .filter(|(_, value)| value.is_finite())
            .collect(),
    };
    answer["data"]["result"].as_array().into_iter().flatten().map(one).collect()
}

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Prometheus {
    server: Child,
    address: String,
    dir: PathBuf,
    /// First and last scrape.
    span: (f64, f64),
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Prometheus {
    /// Starts one with `scrapes`, seconds since 1970 and text, in order of time. `dir` is made
    /// anew.
    pub fn start(tools: &Path, dir: &Path, scrapes: &[(f64, String)]) -> StartResult<Self> {
        let at = |e: std::io::Error| fail(&dir.display().to_string(), &e);
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("data")).map_err(at)?;
        let span = scrapes.first().zip(scrapes.last()).map(|(a, b)| (a.0, b.0));
        let span = span.ok_or_else(|| fail("the guest's output", &"no scrapes"))?;
        let text: String = scrapes.iter().map(|(when, page)| stamped(page, *when)).collect();
        fs::write(dir.join("scrapes"), text + "# EOF\n").map_err(at)?;
        let words = ["tsdb", "create-blocks-from", "openmetrics", "scrapes", "data"];
        output(&tools.join("promtool"), &words, dir)?;
        fs::write(dir.join("empty.yml"), "global: {}\n").map_err(at)?;
        // A port that was free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(at)?;
        let address = port.to_string();
        let log = File::create(dir.join("log")).map_err(at)?;
        let mut command = Command::new(tools.join("prometheus"));
        command.args(["--config.file=empty.yml", "--storage.tsdb.path=data"]);
        command.args(["--storage.tsdb.retention.time=100y", "--web.listen-address", &address]);
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = command.spawn().map_err(|e| fail("prometheus", &e))?;
        let started = Self { server, address, dir: dir.to_owned(), span };
        let begin = Instant::now();
        while let Err(e) = started.get("/-/ready", &[]) {
            if begin.elapsed() > READY_WAIT_MAX {
                return Err(e);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(started)
    }

    fn get(&self, path: &str, data: &[(&str, &str)]) -> StartResult<Vec<u8>> {
        let url = format!("http://{}{path}", self.address);
        let mut words = vec!["-sSf", "--max-time", "20", "--get", url.as_str()];
        let pairs: Vec<String> = data.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.iter().for_each(|pair| words.extend(["--data-urlencode", pair.as_str()]));
        output(Path::new("curl"), &words, &self.dir)
    }

    /// How long the scrapes span, seconds.
    pub const fn seconds(&self) -> f64 {
        self.span.1 - self.span.0
    }

    fn ask(&self, query: &str, pattern: &str) -> StartResult<Vec<Series>> {
        let (begin, end) = (self.span.0.to_string(), self.span.1.to_string());
        let step = (self.seconds() / STEPS).max(1.0).to_string();
        let data = [("query", query), ("start", &begin), ("end", &end), ("step", &step)];
        let answer = self.get("/api/v1/query_range", &data)?;
        let answer = serde_json::from_slice(&answer).map_err(|e| fail(query, &e))?;
        Ok(series_of(&answer, pattern, self.span.0))
    }

    /// The panels of `dashboard` (as Grafana gets it) with what there is to show.
    pub fn panels(&self, dashboard: &Value) -> StartResult<Vec<Panel>> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut panels = Vec::new();
        for panel in list(&dashboard["panels"]) {
            let defaults = &panel["fieldConfig"]["defaults"];
            let mut series = Vec::new();
            for target in list(&panel["targets"]) {
                let query = word(&target["expr"]).replace("$__rate_interval", RATE_INTERVAL);
                let query = query.replace("$instance", ".*").replace("$service", ".*");
                series.extend(self.ask(&query, &word(&target["legendFormat"]))?);
            }
            panels.push(Panel {
                title: word(&panel["title"]),
                unit: word(&defaults["unit"]),
                stacked: defaults["custom"]["stacking"]["mode"] == "normal",
                series,
            });
        }
        Ok(panels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_get_their_place_and_time() {
        let page = "# TYPE uswap_x gauge\nuswap_x{device=\"ublkb0\"} 3\n";
        let wanted = "uswap_x{instance=\"guest\",job=\"uswap\",device=\"ublkb0\"} 3 12.500\n";
        assert_eq!(stamped(page, 12.5), wanted);
    }

    #[test]
    fn an_answer_becomes_series_with_names() {
        let answer = json!({ "data": { "result": [
            { "metric": { "tier": "pool", "codec": "lz4" },
              "values": [[100.0, "1"], [101.0, "NaN"], [102.0, "2.5"]] } ] } });
        let series = series_of(&answer, "{{tier}} {{codec}} {{none}}", 100.0);
        assert_eq!((series.len(), series[0].name.as_str()), (1, "pool lz4"));
        assert_eq!(series[0].points, [(0.0, 1.0), (2.0, 2.5)]);
    }
}
