//! Formats numbers.

/// A number with about two digits, in units of k and M.
pub(crate) fn short(value: f64) -> String {
    match value {
        0.0..0.995 => format!("{value:.2}"),
        0.995..9.95 => format!("{value:.1}"),
        9.95..995.0 => format!("{value:.0}"),
        995.0..995e3 => short(value / 1e3) + "k",
        _ => short(value / 1e6) + "M",
    }
}

/// A round number, in units of k and M.
pub(crate) fn round(value: f64) -> String {
    match value {
        0.0..1e3 => format!("{}", (value * 1e9).round() / 1e9),
        1e3..1e6 => round(value / 1e3) + "k",
        _ => round(value / 1e6) + "M",
    }
}

/// An exponent. One that rounds to 0 has no sign.
pub(crate) fn exponent(value: f64) -> String {
    format!("{:.2}", (value * 100.0).round() / 100.0 + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let check = |value, want| assert_eq!(short(value), want);
        check(0.0, "0.00");
        check(0.994, "0.99");
        check(0.996, "1.0");
        check(9.94, "9.9");
        check(9.96, "10");
        check(994.0, "994");
        check(999.0, "1.0k");
        check(12_345.0, "12k");
        check(2e6, "2.0M");
    }

    #[test]
    fn an_exponent_that_rounds_to_zero_has_no_sign() {
        assert_eq!([-0.001, -0.05, 0.996].map(exponent), ["0.00", "-0.05", "1.00"]);
    }

    #[test]
    fn round_numbers_have_no_superfluous_digits() {
        for (value, want) in [(0.001, "0.001"), (0.5, "0.5"), (20.0, "20"), (5e3, "5k"), (1e7, "10M")] {
            assert_eq!(round(value), want);
        }
    }
}
