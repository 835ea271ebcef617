//! Variables of the environment, read alike for every setting.

use clap::builder::BoolishValueParser;
use clap::{Arg, ArgAction, Command};
use std::ffi::OsString;

/// Whether a variable says yes: 1, true, yes or on, in any case.
pub fn is_true(value: &str) -> bool {
    let yes = ["1", "true", "yes", "on"];
    yes.iter().any(|yes| value.trim().eq_ignore_ascii_case(yes))
}

/// Makes every setting of a command treat its variable alike: one that is blank counts
/// as unset, and a switch's is 1, true, yes or on, or else 0, false, no or off.
///
/// clap has read the variables already; `env` looks them up once more, so that tests
/// need not change the process's own.
pub fn with_variables(command: Command, env: impl Fn(&str) -> Option<OsString> + Copy) -> Command {
    let arg = |arg: Arg| {
        let Some(name) = arg.get_env().and_then(|name| name.to_str()) else {
            return arg;
        };
        let is_blank = env(name).is_some_and(|value| value.to_str().is_some_and(is_blank));
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        };
        if is_blank { arg.env(None::<&str>) } else { arg }
    };
    command
        .mut_args(arg)
        .mut_subcommands(|command| with_variables(command, env))
}

fn is_blank(value: &str) -> bool {
    value.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use clap::Args;

    fn settings() -> Command {
        Config::augment_args(Command::new("coldread"))
    }

    #[test]
    fn every_blank_variable_counts_as_unset() {
        let names = |command: &Command| -> Vec<String> {
            let names = command.get_arguments().filter_map(Arg::get_env);
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        let all = names(&settings());
        assert!(all.len() > 30, "{all:?}");
        for blank in ["", " ", "\t\n"] {
            let command = with_variables(settings(), |_| Some(blank.into()));
            assert_eq!(names(&command), [""; 0]);
        }
        for name in &all {
            let command = with_variables(settings(), |it| (it == name).then(OsString::new));
            assert!(!names(&command).contains(name), "{name}");
            assert_eq!(names(&command).len(), all.len() - 1);
        }
    }

    #[test]
    fn every_switch_takes_yes_and_no_alike() {
        let command = with_variables(settings(), |_| None);
        let with_env = command
            .get_arguments()
            .filter(|arg| arg.get_env().is_some());
        let switches: Vec<&Arg> = with_env
            .filter(|arg| matches!(arg.get_action(), ArgAction::SetTrue))
            .collect();
        assert!(switches.len() >= 2, "{switches:?}");
        for switch in switches {
            // A variable's value goes through the same parser as one on the command line.
            let id = switch.get_id().as_str().to_owned();
            let switch = switch
                .clone()
                .env(None::<&str>)
                .action(ArgAction::Set)
                .num_args(1);
            let probe = Command::new("probe").arg(switch.long("switch"));
            let parse = |value: &str| {
                let matches = probe
                    .clone()
                    .try_get_matches_from(["probe", "--switch", value]);
                matches.map(|matches| matches.get_flag(&id)).ok()
            };
            for yes in ["1", "true", "yes", "on", "TRUE", "On"] {
                assert_eq!(parse(yes), Some(true), "{id} {yes}");
                assert!(is_true(yes));
            }
            for no in ["0", "false", "no", "off", "OFF"] {
                assert_eq!(parse(no), Some(false), "{id} {no}");
                assert!(!is_true(no));
            }
            assert_eq!(parse("perhaps"), None, "{id}");
        }
    }
}
