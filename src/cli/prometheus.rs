//! Prometheus' text format 0.0.4, as node_exporter's textfile collector reads it: each metric with its HELP and TYPE, its
//! samples together.

/// What a metric's value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only goes up; its name ends in `_total`.
    Counter,
}

impl Kind {
    /// The word in the TYPE line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// What it tells, in one line.
    pub help: &'static str,
}

/// A value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric's name.
    pub name: &'static str,
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// The text: the metrics in their order, each with all its samples; a metric without a sample is left out.
pub fn text(metrics: &[Metric], samples: &[Sample]) -> String {
    let mut text = String::new();
    for metric in metrics {
        let own: Vec<&Sample> = samples.iter().filter(|s| s.name == metric.name).collect();
        if own.is_empty() {
            continue;
        }
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        text.push_str(&format!("# HELP {} {help}\n", metric.name));
        text.push_str(&format!("# TYPE {} {}\n", metric.name, metric.kind.word()));
        own.iter().for_each(|sample| text.push_str(&line(sample)));
    }
    text
}

fn line(sample: &Sample) -> String {
    let labels: Vec<String> =
        sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    format!("{}{labels} {}\n", sample.name, number(sample.value))
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value == f64::INFINITY { "+Inf".to_owned() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: [Metric; 3] = [
        Metric { name: "a_seconds", kind: Kind::Gauge, help: "first\\line\nsecond" },
        Metric { name: "unused", kind: Kind::Gauge, help: "none" },
        Metric { name: "b_total", kind: Kind::Counter, help: "b" },
    ];

    fn sample(name: &'static str, labels: &[(&'static str, &str)], value: f64) -> Sample {
        Sample { name, labels: labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect(), value }
    }

    #[test]
    fn samples_of_a_metric_stand_together_under_its_help_and_type() {
        let samples = [
            sample("b_total", &[], 3.0),
            sample("a_seconds", &[("source", "shop")], 1.5),
            sample("b_total", &[("x", "y")], 4.0),
            sample("a_seconds", &[("source", "x\\\"\n")], f64::INFINITY),
        ];
        let expected = "# HELP a_seconds first\\\\line\\nsecond\n# TYPE a_seconds gauge\n\
                        a_seconds{source=\"shop\"} 1.5\na_seconds{source=\"x\\\\\\\"\\n\"} +Inf\n\
                        # HELP b_total b\n# TYPE b_total counter\nb_total 3\nb_total{x=\"y\"} 4\n";
        assert_eq!(text(&METRICS, &samples), expected);
    }

    #[test]
    fn large_numbers_are_written_in_full() {
        assert_eq!(number(9_007_199_254_740_991.0), "9007199254740991");
        assert_eq!(number(0.25), "0.25");
    }
}
