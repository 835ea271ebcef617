//! Numbers, shares and dollars as text, for terminals, reports and bills.

/// A number for readers: thousands separated, four significant digits below 100.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 100.0 || magnitude.fract() == 0.0 {
        let rounded = if magnitude >= 10_000.0 || magnitude.fract() == 0.0 {
            format!("{magnitude:.0}")
        } else {
            trim(&format!("{magnitude:.1}"))
        };
        let (whole, fraction) = rounded.split_once('.').unwrap_or((&rounded, ""));
        let mut text = String::new();
        for (place, digit) in whole.chars().enumerate() {
            if place > 0 && (whole.len() - place) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        if !fraction.is_empty() {
            text.push('.');
            text.push_str(fraction);
        }
        if value < 0.0 {
            text.insert(0, '-');
        }
        return text;
    }
    let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 12) as usize;
    trim(&format!("{value:.decimals$}"))
}

/// Three significant digits: a verdict is not more certain than that.
pub fn brief(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return number(value);
    }
    let unit = 10f64.powi(2 - value.abs().log10().floor() as i32);
    number((value * unit).round() / unit)
}

/// Dollars: cents from one dollar on, else three significant digits.
pub fn dollars(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let magnitude = value.abs();
    if magnitude >= 10_000.0 {
        return format!("{sign}${}", number(magnitude.round()));
    }
    if magnitude >= 0.995 {
        let cents = (magnitude * 100.0).round() as u64;
        return format!("{sign}${}.{:02}", number((cents / 100) as f64), cents % 100);
    }
    if magnitude == 0.0 {
        return "$0".to_owned();
    }
    let decimals = (2 - magnitude.log10().floor() as i32).clamp(2, 14) as usize;
    format!("{sign}${magnitude:.decimals$}")
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{}%", number(share * 100.0))
}

/// A unit price with all its digits and without an exponent.
pub fn unit_price(value: f64) -> String {
    trim(&format!("{value:.12}"))
}

fn trim(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_and_grouped_for_readers() {
        for (value, expected) in [
            (0.0, "0"),
            (1_234_567.0, "1,234,567"),
            (999.94, "999.9"),
            (0.012_345, "0.01235"),
            (43.0, "43"),
            (1.5, "1.5"),
            (-2_000.0, "-2,000"),
        ] {
            assert_eq!(number(value), expected);
        }
        for (value, expected) in [
            (0.0, "$0"),
            (2.733_338, "$2.73"),
            (1_234.5, "$1,234.50"),
            (12_345.6, "$12,346"),
            (0.004_321, "$0.00432"),
            (0.999, "$1.00"),
            (0.25, "$0.250"),
        ] {
            assert_eq!(dollars(value), expected);
        }
    }
}
