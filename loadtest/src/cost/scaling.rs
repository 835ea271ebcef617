//! Hosts whose number follows the load: a target utilisation, a reaction time, and a
//! time for which they are kept.
//!
//! A load balancer's or a container service's target tracking does this: metrics of a
//! minute, an alarm after some of them, a host that takes its time to start, and no host
//! taken away before the load has been low for a quarter of an hour.

use std::collections::VecDeque;

use super::workload::Autoscaling;
use crate::arrivals::profile::RateProfile;

/// Hosts in each interval of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// Hosts by interval.
    pub hosts: Vec<u32>,
    /// Their mean.
    pub mean: f64,
    /// Their least.
    pub fewest: u32,
    /// Their most.
    pub most: u32,
}

/// Hosts for the traffic of `profile`, each wanted for `each` of the mean rate.
pub fn autoscale(profile: &RateProfile, scaling: &Autoscaling, each: f64, least: u32) -> Fleet {
    let wanted: Vec<u32> = profile
        .ratios
        .iter()
        .map(|ratio| ((ratio / each - 1e-9).ceil() as u32).max(least.max(1)))
        .collect();
    let intervals = |seconds: f64| (seconds / profile.interval_s).ceil() as usize;
    let (reaction, hold) = (intervals(scaling.reaction_s), intervals(scaling.hold_s));
    // Hosts of an interval are the most that were wanted between `hold` before what is
    // reacted to, and that. Before the first interval the load was as in it.
    let mut hosts = Vec::with_capacity(wanted.len());
    let mut window: VecDeque<usize> = VecDeque::new();
    for now in 0..wanted.len() {
        if let Some(seen) = now.checked_sub(reaction) {
            while window
                .back()
                .is_some_and(|&last| wanted[last] <= wanted[seen])
            {
                window.pop_back();
            }
            window.push_back(seen);
            while window.front().is_some_and(|&first| first + hold < seen) {
                window.pop_front();
            }
        }
        hosts.push(window.front().map_or(wanted[0], |&most| wanted[most]));
    }
    let count = hosts.len() as f64;
    Fleet {
        mean: hosts.iter().map(|&hosts| f64::from(hosts)).sum::<f64>() / count,
        fewest: hosts.iter().copied().min().unwrap_or(1),
        most: hosts.iter().copied().max().unwrap_or(1),
        hosts,
    }
}

impl Fleet {
    /// Share of the requests that come in intervals that ask for more than the hosts can
    /// do, each at most `each` of the mean rate.
    pub fn short(&self, profile: &RateProfile, each: f64) -> f64 {
        let pairs = profile.ratios.iter().zip(&self.hosts);
        let short: f64 = pairs
            .filter(|(ratio, hosts)| **ratio > f64::from(**hosts) * each)
            .map(|(ratio, _)| *ratio)
            .sum();
        short / profile.ratios.iter().sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(ratios: &[f64]) -> RateProfile {
        RateProfile {
            interval_s: 60.0,
            ratios: ratios.into(),
        }
    }

    /// One host for each 0.5 of the mean rate; two minutes to react, three to let go.
    #[test]
    fn hosts_follow_the_load_late_and_leave_it_later() {
        let load = profile(&[0.5, 0.5, 2.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]);
        let scaling = Autoscaling {
            reaction_s: 120.0,
            hold_s: 180.0,
        };
        let fleet = autoscale(&load, &scaling, 0.5, 1);
        assert_eq!(fleet.hosts, [1, 1, 1, 1, 4, 4, 4, 4, 1, 1]);
        assert_eq!((fleet.fewest, fleet.most), (1, 4));
        assert!((fleet.mean - 2.2).abs() < 1e-12);
        // The burst met one host, which can do 0.8 of the mean rate.
        assert!((fleet.short(&load, 0.8) - 2.0 / 6.5).abs() < 1e-12);
    }

    #[test]
    fn a_steady_load_has_a_steady_fleet() {
        let fleet = autoscale(&RateProfile::default(), &Autoscaling::default(), 0.25, 1);
        assert_eq!((fleet.fewest, fleet.most), (4, 4));
        let kept = autoscale(&RateProfile::default(), &Autoscaling::default(), 2.0, 3);
        assert_eq!((kept.fewest, kept.most), (3, 3));
    }
}
