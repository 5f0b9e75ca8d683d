//! The Grafana dashboard, made from a table of panels.

use serde_json::{Value, json};

/// Grid columns of a dashboard, and what a panel takes of it.
const COLUMNS: u32 = 24;
const WIDTH: u32 = 8;
const HEIGHT: u32 = 7;

/// A panel.
struct Panel {
    title: &'static str,
    /// A Grafana unit: `bytes`, `s`, `ops`, `percentunit`, `short`.
    unit: &'static str,
    /// Whether the series are parts of one whole.
    stacked: bool,
    /// Query and legend of each series.
    series: &'static [(&'static str, &'static str)],
}

/// Selects the service that was chosen at the top.
const CHOSEN: &str = "instance=~\"$instance\",service=~\"$service\"";

/// `@` stands for the chosen service's labels, `#` for the window of a rate.
const PANELS: &[Panel] = &[
    Panel {
        title: "Swap in use",
        unit: "bytes",
        stacked: false,
        series: &[
            ("uswap_swap_used_bytes{@}", "used"),
            ("uswap_swap_size_bytes{@}", "size"),
            ("uswap_stale_pages{@} * 4096", "stale, at least"),
        ],
    },
    Panel {
        title: "Pages by tier",
        unit: "bytes",
        stacked: true,
        series: &[("uswap_pages{@} * 4096", "{{tier}} {{codec}}")],
    },
    Panel {
        title: "Compression: pages to bytes in the pool",
        unit: "short",
        stacked: false,
        series: &[
            (
                "4096 * sum by (instance, service) (uswap_pages{@,tier=\"pool\"}) \
                 / on (instance, service) uswap_pool_object_bytes{@}",
                "objects",
            ),
            (
                "4096 * sum by (instance, service) (uswap_pages{@,tier=~\"pool|slot\"}) \
                 / on (instance, service) uswap_pool_resident_bytes{@}",
                "all resident",
            ),
        ],
    },
    Panel {
        title: "Pool",
        unit: "bytes",
        stacked: false,
        series: &[
            ("uswap_pool_limit_bytes{@}", "limit"),
            ("uswap_pool_resident_bytes{@}", "resident"),
            ("uswap_pool_used_bytes{@}", "slabs in use"),
            ("uswap_pool_object_bytes{@}", "objects"),
            ("uswap_data_bytes{@,tier=\"pool\"}", "data"),
        ],
    },
    Panel {
        title: "RAM beside the pool",
        unit: "bytes",
        stacked: true,
        series: &[("uswap_memory_bytes{@}", "{{purpose}}")],
    },
    Panel {
        title: "Resident set, all of it",
        unit: "bytes",
        stacked: false,
        series: &[("uswap_resident_bytes{@}", "{{service}}")],
    },
    Panel {
        title: "Requests",
        unit: "ops",
        stacked: false,
        series: &[("rate(uswap_requests_total{@}[#])", "{{op}}")],
    },
    Panel {
        title: "Pages read, by where they were",
        unit: "ops",
        stacked: true,
        series: &[("rate(uswap_read_pages_total{@}[#])", "{{tier}} {{codec}}")],
    },
    Panel {
        title: "Pages written",
        unit: "ops",
        stacked: false,
        series: &[
            ("rate(uswap_committed_pages_total{@}[#])", "committed {{path}}"),
            ("rate(uswap_written_pages_total{@}[#])", "stored {{codec}}"),
            ("rate(uswap_discarded_pages_total{@}[#])", "discarded"),
        ],
    },
    Panel {
        title: "Time to commit",
        unit: "s",
        stacked: false,
        series: &[
            (
                "histogram_quantile(0.5, sum by (le) (rate(uswap_commit_seconds_bucket{@}[#])))",
                "half",
            ),
            (
                "histogram_quantile(0.99, sum by (le) (rate(uswap_commit_seconds_bucket{@}[#])))",
                "99 %",
            ),
        ],
    },
    Panel {
        title: "Time of a read, 99 %",
        unit: "s",
        stacked: false,
        series: &[(
            "histogram_quantile(0.99, \
             sum by (le, tier, codec) (rate(uswap_read_seconds_bucket{@}[#])))",
            "{{tier}} {{codec}}",
        )],
    },
    Panel {
        title: "Time pages stay staged",
        unit: "s",
        stacked: false,
        series: &[
            (
                "histogram_quantile(0.5, \
                 sum by (le) (rate(uswap_compress_lag_seconds_bucket{@}[#])))",
                "half",
            ),
            (
                "histogram_quantile(0.99, \
                 sum by (le) (rate(uswap_compress_lag_seconds_bucket{@}[#])))",
                "99 %",
            ),
        ],
    },
    Panel {
        title: "Making pages denser",
        unit: "ops",
        stacked: false,
        series: &[
            ("rate(uswap_recompressed_pages_total{@}[#])", "recompressed"),
            ("rate(uswap_recompress_useless_pages_total{@}[#])", "not smaller"),
            ("rate(uswap_compacted_objects_total{@}[#])", "moved together"),
        ],
    },
    Panel {
        title: "Spill",
        unit: "bytes",
        stacked: false,
        series: &[
            ("uswap_spill_size_bytes{@}", "size"),
            ("uswap_spill_used_bytes{@}", "segments in use"),
            ("uswap_data_bytes{@,tier=\"spill\"}", "data"),
        ],
    },
    Panel {
        title: "Spill traffic",
        unit: "ops",
        stacked: false,
        series: &[
            ("rate(uswap_spilled_pages_total{@}[#])", "pages out"),
            ("rate(uswap_read_pages_total{@,tier=\"spill\"}[#])", "pages in"),
            ("rate(uswap_promoted_pages_total{@}[#])", "back in RAM for good"),
            ("rate(uswap_spill_moved_pages_total{@}[#])", "moved by cleaning"),
        ],
    },
    Panel {
        title: "Pressure and room",
        unit: "short",
        stacked: false,
        series: &[
            ("uswap_policy_pressure{@} == 1", "memory {{pressure}}"),
            ("uswap_pool_level{@} == 1", "pool {{level}}"),
            ("uswap_spill_health{@} == 1", "spill {{health}}"),
            ("uswap_policy_short{@}", "{{reason}}"),
        ],
    },
    Panel {
        title: "Trouble",
        unit: "ops",
        stacked: false,
        series: &[
            ("rate(uswap_read_errors_total{@}[#])", "reads failed: {{reason}}"),
            ("rate(uswap_write_errors_total{@}[#])", "writes refused: {{reason}}"),
            ("rate(uswap_throttled_tries_total{@}[#])", "writes waited"),
            ("rate(uswap_spill_write_errors_total{@}[#])", "spill writes failed"),
            ("rate(uswap_pool_growth_failures_total{@}[#])", "growth refused"),
        ],
    },
    Panel {
        title: "Protections",
        unit: "short",
        stacked: false,
        series: &[
            ("uswap_safe{@}", "{{protection}}"),
            ("uswap_swap_active{@}", "in use as swap"),
            ("uswap_standby_ready{@}", "standby ready"),
        ],
    },
];

fn target((expr, legend): &(&str, &str), id: usize) -> Value {
    let expr = expr.replace('@', CHOSEN).replace('#', "$__rate_interval");
    let letter = char::from(b'A' + id as u8);
    json!({ "refId": letter.to_string(), "expr": expr, "legendFormat": legend,
            "datasource": { "type": "prometheus", "uid": "$datasource" } })
}

fn panel(panel: &Panel, id: u32) -> Value {
    let across = COLUMNS / WIDTH;
    let targets: Vec<Value> = panel.series.iter().enumerate().map(|(i, s)| target(s, i)).collect();
    let stacking = if panel.stacked { "normal" } else { "none" };
    json!({
        "id": id + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": { "type": "prometheus", "uid": "$datasource" },
        "gridPos": { "h": HEIGHT, "w": WIDTH, "x": id % across * WIDTH, "y": id / across * HEIGHT },
        "fieldConfig": { "overrides": [], "defaults": { "unit": panel.unit, "min": 0, "custom": {
            "fillOpacity": if panel.stacked { 40 } else { 5 }, "showPoints": "never",
            "stacking": { "mode": stacking, "group": "A" } } } },
        "options": { "legend": { "displayMode": "list", "placement": "bottom" },
                     "tooltip": { "mode": "multi" } },
        "targets": targets,
    })
}

fn variable(name: &str, query: &str) -> Value {
    json!({ "name": name, "type": "query", "query": query, "refresh": 2, "multi": true,
            "includeAll": true, "current": { "text": "All", "value": "$__all" },
            "datasource": { "type": "prometheus", "uid": "$datasource" } })
}

/// The dashboard as JSON that Grafana 10 and newer import.
pub fn dashboard() -> Value {
    let panels: Vec<Value> = PANELS.iter().zip(0..).map(|(p, id)| panel(p, id)).collect();
    json!({
        "title": "uswap",
        "uid": "uswap",
        "tags": ["swap", "memory"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": { "from": "now-3h", "to": "now" },
        "templating": { "list": [
            { "name": "datasource", "type": "datasource", "query": "prometheus" },
            variable("instance", "label_values(uswap_info, instance)"),
            variable("service", "label_values(uswap_info{instance=~\"$instance\"}, service)"),
        ] },
        "panels": panels,
    })
}

/// Every query of the dashboard, as Prometheus would get it with everything chosen.
pub fn queries() -> impl Iterator<Item = String> {
    let series = PANELS.iter().flat_map(|panel| panel.series);
    series.map(|(expr, _)| expr.replace('@', "service=~\".+\"").replace('#', "5m"))
}
