//! Recorded traffic, in the formats public traces come in.
//!
//! | header | what a row is | public originals |
//! |---|---|---|
//! | `HashOwner,HashApp,HashFunction,Trigger,1,...,1440` | a function's invocations in each minute of a day | Azure Functions 2019 |
//! | `app,func,end_timestamp,duration` | one invocation, seconds | Azure Functions 2021 |
//! | a time column and `value`, `count`, `requests` or `invocations` | arrivals in the interval that begins there | NAB |
//! | a column `timestamp`, `time`, `date`, `datetime` or `seconds` | one arrival | Azure LLM inference 2023, 2024 |
//! | none | one arrival a line, seconds or a date and time | |
//!
//! Times are seconds or ISO 8601; without an offset they are taken as UTC. Only
//! differences matter: the first arrival or interval begins at zero.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use thiserror::Error;

use super::time::{ArrivalTimes, Nanos};
use crate::csv_input::{InputFile, RowError};

/// Why a trace cannot be read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file, or one of its rows, cannot be read.
    #[error(transparent)]
    Rows(#[from] RowError),
    /// The file holds no arrival.
    #[error("{file} contains no arrival{0}", what.as_deref().unwrap_or_default())]
    Empty {
        /// The file as the user named it.
        file: String,
        /// What was looked for in it.
        what: Option<String>,
    },
}

/// More arrivals than this in one interval are a mistake of the file.
const MOST_IN_INTERVAL: f64 = 1e9;

/// Recorded arrivals, from zero on.
#[derive(Clone, Debug, PartialEq)]
pub enum Trace {
    /// The moment of each.
    Times(Vec<Nanos>),
    /// Numbers in intervals of one length: start and number, ascending.
    Counts {
        /// Length of an interval.
        interval: Nanos,
        /// Start of an interval and arrivals within.
        counts: Vec<(Nanos, f64)>,
    },
}

impl Trace {
    /// Reads `path`; of a file of many functions only `function`, else their sum.
    pub fn read(path: &Path, function: Option<&str>) -> Result<Self, TraceError> {
        let file = InputFile::new(path);
        let source = std::fs::File::open(path).map_err(|source| file.read_error(source))?;
        Reader { file, function }.read(source)
    }

    /// From the first arrival's interval to the end of the last one.
    pub fn length(&self) -> Nanos {
        match self {
            Self::Times(times) => times.last().map_or(0, |last| last + 1),
            Self::Counts { interval, counts } => {
                counts.last().map_or(0, |(start, _)| start + interval)
            }
        }
    }

    /// Number of arrivals.
    pub fn total(&self) -> f64 {
        match self {
            Self::Times(times) => times.len() as f64,
            Self::Counts { counts, .. } => counts.iter().map(|(_, count)| count).sum(),
        }
    }

    /// The arrivals, `rate_scale` times as many, played `time_scale` times as fast.
    ///
    /// Within an interval they are spread as Poisson arrivals of that number are:
    /// uniformly. Additional copies of single arrivals fall between it and the next,
    /// so that bursts stay bursts.
    pub fn times(&self, seed: u64, rate_scale: f64, time_scale: f64) -> ArrivalTimes {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let faster = move |time: Nanos| {
            if (time_scale - 1.0).abs() < f64::EPSILON {
                time
            } else {
                (time as f64 / time_scale) as Nanos
            }
        };
        match self {
            Self::Times(times) => {
                let times = times.clone();
                let copies = (0..times.len()).flat_map(move |place| {
                    let wanted = whole(rate_scale, &mut rng);
                    let gap = times.get(place + 1).map_or(0, |next| next - times[place]);
                    let mut copies: Vec<Nanos> = (0..wanted)
                        .map(|copy| match copy {
                            0 => times[place],
                            _ => times[place] + (rng.random::<f64>() * gap as f64) as Nanos,
                        })
                        .collect();
                    copies.sort_unstable();
                    copies
                });
                Box::new(copies.map(faster))
            }
            Self::Counts { interval, counts } => {
                let (interval, counts) = (*interval, counts.clone());
                let spread = counts.into_iter().flat_map(move |(start, count)| {
                    let mut times: Vec<Nanos> = (0..whole(count * rate_scale, &mut rng))
                        .map(|_| start + rng.random_range(0..interval))
                        .collect();
                    times.sort_unstable();
                    times
                });
                Box::new(spread.map(faster))
            }
        }
    }
}

/// `value` as a whole number that has it as its mean.
fn whole(value: f64, rng: &mut ChaCha8Rng) -> u64 {
    value.floor() as u64 + u64::from(rng.random::<f64>() < value.fract())
}

/// What the columns of a file mean.
enum Columns {
    /// Counts by minute from this column on, names in the three before.
    PerMinute { first: usize, names: Vec<usize> },
    /// End and duration in seconds, names.
    Invocations {
        end: usize,
        duration: usize,
        names: Vec<usize>,
    },
    /// Start of an interval and the number in it.
    Counts { time: usize, count: usize },
    /// One arrival.
    Times { time: usize },
}

struct Reader<'a> {
    file: InputFile,
    function: Option<&'a str>,
}

impl Reader<'_> {
    fn read(&self, source: impl std::io::Read) -> Result<Trace, TraceError> {
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(source);
        let mut columns = None;
        let mut rows = Rows::default();
        for record in self.file.records(reader) {
            let (line, record) = record?;
            match &columns {
                None => {
                    let (found, is_header) = header(&record);
                    if !is_header {
                        self.row(&found, &record, line, &mut rows)?;
                    }
                    columns = Some(found);
                }
                Some(columns) => self.row(columns, &record, line, &mut rows)?,
            }
        }
        self.finish(columns.as_ref(), rows)
    }

    fn row(
        &self,
        columns: &Columns,
        record: &csv::StringRecord,
        line: u64,
        rows: &mut Rows,
    ) -> Result<(), RowError> {
        let field = |place: usize| {
            record
                .get(place)
                .filter(|field| !field.is_empty())
                .ok_or_else(|| {
                    self.file
                        .row_error(line, format!("column {} is empty", place + 1))
                })
        };
        let named = |names: &[usize]| {
            self.function
                .is_none_or(|wanted| names.iter().any(|&place| record.get(place) == Some(wanted)))
        };
        let count = |text: &str| {
            text.parse()
                .ok()
                .filter(|count| (0.0..=MOST_IN_INTERVAL).contains(count))
                .ok_or_else(|| {
                    self.file
                        .row_error(line, format!("`{}` is not a count", shown(text)))
                })
        };
        let time = |text: &str| {
            seconds(text).ok_or_else(|| {
                self.file.row_error(
                    line,
                    format!("`{}` is neither seconds nor a date and time", shown(text)),
                )
            })
        };
        match columns {
            Columns::PerMinute { first, names } => {
                if named(names) {
                    rows.minutes.resize(
                        rows.minutes
                            .len()
                            .max(record.len() - (*first).min(record.len())),
                        0.0,
                    );
                    for place in *first..record.len() {
                        rows.minutes[place - first] += count(field(place)?)?;
                    }
                }
            }
            Columns::Invocations {
                end,
                duration,
                names,
            } => {
                if named(names) {
                    rows.times
                        .push(time(field(*end)?)? - time(field(*duration)?)?);
                }
            }
            Columns::Counts { time: at, count: n } => {
                let start = time(field(*at)?)?;
                if rows.counts.last().is_some_and(|(last, _)| *last >= start) {
                    return Err(self.file.row_error(line, "not later than the row before"));
                }
                rows.counts.push((start, count(field(*n)?)?));
            }
            Columns::Times { time: at } => rows.times.push(time(field(*at)?)?),
        }
        Ok(())
    }

    fn finish(&self, columns: Option<&Columns>, mut rows: Rows) -> Result<Trace, TraceError> {
        let trace = match columns {
            Some(Columns::Counts { .. }) => {
                let first = rows.counts.first().map_or(0.0, |(first, _)| *first);
                let mut steps: Vec<f64> = rows
                    .counts
                    .windows(2)
                    .map(|pair| pair[1].0 - pair[0].0)
                    .collect();
                steps.sort_by(f64::total_cmp);
                // Of a single row the length is unknown; a minute is the usual one.
                let interval = steps.get(steps.len() / 2).map_or(60.0, |step| *step);
                Trace::Counts {
                    interval: nanos(interval).max(1),
                    counts: rows
                        .counts
                        .iter()
                        .map(|(start, count)| (nanos(start - first), *count))
                        .collect(),
                }
            }
            Some(Columns::PerMinute { .. }) => Trace::Counts {
                interval: 60_000_000_000,
                counts: (0u64..)
                    .map(|minute| minute * 60_000_000_000)
                    .zip(rows.minutes)
                    .collect(),
            },
            _ => {
                rows.times.sort_by(f64::total_cmp);
                let first = rows.times.first().copied().unwrap_or(0.0);
                Trace::Times(rows.times.iter().map(|time| nanos(time - first)).collect())
            }
        };
        if trace.total() < 1.0 {
            return Err(TraceError::Empty {
                file: self.file.0.clone(),
                what: self.function.map(|name| format!(" of `{}`", shown(name))),
            });
        }
        Ok(trace)
    }
}

#[derive(Default)]
struct Rows {
    times: Vec<f64>,
    counts: Vec<(f64, f64)>,
    minutes: Vec<f64>,
}

/// What the first row says the columns are, and whether it is a header.
fn header(record: &csv::StringRecord) -> (Columns, bool) {
    let names: Vec<String> = record.iter().map(str::to_ascii_lowercase).collect();
    let place = |wanted: &[&str]| {
        names
            .iter()
            .position(|name| wanted.contains(&name.as_str()))
    };
    let several = |wanted: &[&str]| wanted.iter().filter_map(|name| place(&[name])).collect();
    if let Some(function) = place(&["hashfunction"]) {
        let names = several(&["hashowner", "hashapp", "hashfunction"]);
        let first = place(&["1"]).unwrap_or(function + 2);
        return (Columns::PerMinute { first, names }, true);
    }
    if let (Some(end), Some(duration)) = (place(&["end_timestamp"]), place(&["duration"])) {
        let names = several(&["app", "func"]);
        return (
            Columns::Invocations {
                end,
                duration,
                names,
            },
            true,
        );
    }
    let time = place(&[
        "timestamp",
        "time",
        "date",
        "datetime",
        "seconds",
        "arrival",
    ]);
    let count = place(&["value", "count", "requests", "invocations", "sum"]);
    match (time, count) {
        (Some(time), Some(count)) => (Columns::Counts { time, count }, true),
        (Some(time), None) => (Columns::Times { time }, true),
        (None, _) => (Columns::Times { time: 0 }, false),
    }
}

/// Seconds of a number or a date and time.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    if let Ok(seconds) = text.parse::<f64>() {
        return (seconds.abs() < 1e12).then_some(seconds);
    }
    let nanos = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time.as_nanosecond(),
        Err(_) => text
            .parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()?
            .timestamp()
            .as_nanosecond(),
    };
    Some(nanos as f64 / 1e9)
}

fn nanos(seconds: f64) -> Nanos {
    (seconds * 1e9).round() as Nanos
}

/// A short piece of a foreign text, without control characters.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Trace, TraceError> {
        read_function(text, None)
    }

    fn read_function(text: &str, function: Option<&str>) -> Result<Trace, TraceError> {
        Reader {
            file: InputFile("made.csv".to_owned()),
            function,
        }
        .read(text.as_bytes())
    }

    #[track_caller]
    fn check_times(text: &str, expected_ms: &[u64]) {
        // Dates as seconds in a float are exact to a quarter of a microsecond.
        let Trace::Times(times) = read(text).unwrap() else {
            panic!("no single arrivals");
        };
        let found: Vec<u64> = times
            .iter()
            .map(|time| (time + 500_000) / 1_000_000)
            .collect();
        assert_eq!(found, expected_ms);
    }

    #[test]
    fn single_arrivals_in_every_spelling() {
        check_times("0.5\n0.75\n\n2\n", &[0, 250, 1_500]);
        check_times(
            "TIMESTAMP\n2023-11-16 18:17:03.9799600\n2023-11-16 18:17:04.0319600\n",
            &[0, 52],
        );
        check_times(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.009930+00:00,1,2\n2024-05-10T00:00:01.009930Z,3,4\r\n",
            &[0, 1_000],
        );
        check_times("user,time\na,10\nb,9\n", &[0, 1_000]);
        check_times(
            "app,func,end_timestamp,duration\nx,f,10.5,0.5\nx,g,9.5,1.5\n",
            &[0, 2_000],
        );
    }

    #[test]
    fn counts_by_interval() {
        let trace = read(
            "timestamp,value\n2015-02-26 21:42:53,3\n2015-02-26 21:47:53,0\n2015-02-26 21:52:53,2\n",
        )
        .unwrap();
        assert_eq!(trace.length(), 900_000_000_000);
        let times: Vec<Nanos> = trace.times(1, 1.0, 1.0).collect();
        assert_eq!(times.len(), 5);
        assert!(times.is_sorted());
        assert_eq!(
            times.iter().filter(|time| **time < 300_000_000_000).count(),
            3
        );
        assert!(times[3] >= 600_000_000_000);
    }

    #[test]
    fn functions_by_minute_summed_or_alone() {
        let text =
            "HashOwner,HashApp,HashFunction,Trigger,1,2,3\no,a,f,http,1,0,2\no,a,g,queue,0,5,0\n";
        assert_eq!(
            read(text).unwrap(),
            Trace::Counts {
                interval: 60_000_000_000,
                counts: vec![(0, 1.0), (60_000_000_000, 5.0), (120_000_000_000, 2.0)],
            }
        );
        assert_eq!(
            read_function(text, Some("g")).unwrap().total().to_string(),
            "5"
        );
        let error = read_function(text, Some("h")).unwrap_err();
        assert_eq!(error.to_string(), "made.csv contains no arrival of `h`");
    }

    #[test]
    fn more_or_less_traffic_keeps_its_shape() {
        let trace = Trace::Times((0..1_000).map(|n| n * 1_000_000).collect());
        assert_eq!(trace.times(1, 1.0, 1.0).count(), 1_000);
        let triple: Vec<Nanos> = trace.times(1, 3.0, 1.0).collect();
        assert_eq!(triple.len(), 3_000);
        assert!(triple.is_sorted());
        let third = trace.times(1, 0.3, 1.0).count();
        assert!((250..350).contains(&third), "{third}");
        assert_eq!(trace.times(1, 1.0, 10.0).last(), Some(99_900_000));
    }

    #[test]
    fn a_bad_row_is_named_by_file_and_line() {
        for (text, expected) in [
            (
                "timestamp,value\n2015-02-26 21:42:53,3\n2015-02-26 21:47:53,many\n",
                "made.csv:3: `many` is not a count",
            ),
            (
                "timestamp,value\n2015-02-26 21:42:53,3\n2015-02-26 21:42:53,3\n",
                "made.csv:3: not later",
            ),
            (
                "timestamp,value\n2015-02-26 21:42:53,-3\n",
                "made.csv:2: `-3` is not a count",
            ),
            (
                "timestamp,value\n2015-02-26 21:42:53\n",
                "made.csv:2: column 2 is empty",
            ),
            (
                "TIMESTAMP\nyesterday\n",
                "made.csv:2: `yesterday` is neither",
            ),
            ("1\nNaN\n", "made.csv:2: `NaN` is neither"),
            ("1\n1e300\n", "made.csv:2: `1e300` is neither"),
            ("who knows\n", "made.csv:1: `who knows` is neither"),
            (
                "HashOwner,HashApp,HashFunction,Trigger,1,2\no,a,f,http,1,x\n",
                "made.csv:2: `x` is not a count",
            ),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
        let bytes: &[u8] = b"1\n\xff\xfe\n";
        let reader = Reader {
            file: InputFile("made.csv".to_owned()),
            function: None,
        };
        assert_eq!(
            reader.read(bytes).unwrap_err().to_string(),
            "made.csv:2: not UTF-8"
        );
        assert_eq!(
            read("").unwrap_err().to_string(),
            "made.csv contains no arrival"
        );
        assert_eq!(
            read("timestamp,value\n").unwrap_err().to_string(),
            "made.csv contains no arrival"
        );
    }
}
