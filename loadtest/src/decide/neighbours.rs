//! The rate at which an option costs as much as the next one in the ranking.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tried;
use super::options::with_usual_count;
use crate::cost;
use crate::cost::breakeven::{Search, crossings};
use crate::cost::prices::{PriceError, Prices};
use crate::format::number;

/// Factor by which the rate is varied down and up.
const REACH: f64 = 1_000.0;

/// Two neighbours of the ranking.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Neighbours {
    /// The cheaper one at the present rate.
    pub cheaper: String,
    /// The next one.
    pub next: String,
    /// The rate nearest to the present one, requests a second, at which both cost the
    /// same; absent where there is none within a factor of a thousand.
    pub requests_per_second: Option<f64>,
    /// That rate over the present one.
    pub times_present: Option<f64>,
    /// The result as a sentence.
    pub words: String,
}

/// Where `a` and `b`, of which `a` is cheaper now, cost the same when all of the traffic
/// grows or shrinks and keeps its shape.
pub(super) fn between(a: &Tried, b: &Tried, prices: &Prices) -> Result<Neighbours, PriceError> {
    let rate = a.workload.rate();
    let search = Search {
        from: rate / REACH,
        to: rate * REACH,
        steps: 90,
    };
    // At other rates there are other numbers of hosts.
    let (first, second) = (with_usual_count(&a.target), with_usual_count(&b.target));
    let found = crossings(search, |rate| {
        let usd = |tried: &Tried| -> Result<f64, PriceError> {
            let target = if std::ptr::eq(tried, a) {
                &first
            } else {
                &second
            };
            Ok(cost::bill(&tried.workload.at_rate(rate), prices, target)?.usd())
        };
        Ok(usd(a)? - usd(b)?)
    })?;
    let (cheaper, next) = (a.ranked.target.clone(), b.ranked.target.clone());
    let same = (a.ranked.usd_per_month / b.ranked.usd_per_month - 1.0).abs() < 1e-9;
    let below = found.iter().copied().rfind(|even| *even < rate);
    let above = found.iter().copied().find(|even| *even >= rate);
    let away = |even: f64| (even / rate).ln().abs();
    let nearest = below
        .into_iter()
        .chain(above)
        .min_by(|x, y| away(*x).total_cmp(&away(*y)));
    let times = |even: f64| number((even / rate * 1_000.0).round() / 1_000.0);
    let words = match (below, above) {
        (None, None) if same => format!("{cheaper} and {next} cost the same."),
        (None, None) => format!(
            "{cheaper} is cheaper than {next} at every rate from a thousandth to a thousand times this one."
        ),
        (Some(low), Some(high)) => format!(
            "{cheaper} is cheaper than {next} from {} to {} requests/s, {} to {} times this traffic.",
            number(low),
            number(high),
            times(low),
            times(high)
        ),
        (None, Some(high)) => format!(
            "{cheaper} is cheaper than {next} up to {} requests/s, {} times this traffic.",
            number(high),
            times(high)
        ),
        (Some(low), None) => format!(
            "{cheaper} is cheaper than {next} down to {} requests/s, {} times this traffic.",
            number(low),
            times(low)
        ),
    };
    Ok(Neighbours {
        cheaper,
        next,
        requests_per_second: nearest,
        times_present: nearest.map(|even| even / rate),
        words,
    })
}
