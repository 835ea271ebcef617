//! The options of each platform.

use std::str::FromStr;

use crate::cost::prices::Prices;
use crate::cost::target::{Arch, CloudRunBilling, LambdaOptions, Target};

/// Memory sizes of functions that are tried, MB: up to one vCPU, beyond which one thread
/// gains nothing.
const MEMORY_MB: [u32; 6] = [128, 256, 512, 1_024, 1_280, 1_769];
/// Sizes of MicroVMs that are tried, vCPUs and GB.
const MICROVMS: [(f64, f64); 4] = [(0.25, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 4.0)];
/// Target utilisations of autoscaled hosts that are tried, percent.
const UTILISATIONS: [u32; 6] = [70, 60, 50, 40, 30, 20];

/// A cloud whose options are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Amazon Web Services.
    Aws,
    /// Google Cloud.
    Google,
    /// Microsoft Azure.
    Azure,
}

impl FromStr for Platform {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "aws" => Ok(Self::Aws),
            "google" => Ok(Self::Google),
            "azure" => Ok(Self::Azure),
            other => Err(format!(
                "`{other}` is unknown; expected aws, google or azure"
            )),
        }
    }
}

/// One target of a family, or a family by itself whose number is searched for.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// As it stands.
    Exactly(Target),
    /// With as many environments, instances or hosts kept as the bound of p99 needs.
    AsMany(Target),
}

/// The families of `platform` on processors of `archs`, with the `machines` that have a
/// price.
pub fn families(
    platform: Platform,
    archs: &[Arch],
    machines: &[String],
    prices: &Prices,
) -> Vec<Vec<Choice>> {
    match platform {
        Platform::Aws => aws(archs, machines, prices),
        Platform::Google => google(),
        Platform::Azure => azure(),
    }
}

fn aws(archs: &[Arch], machines: &[String], prices: &Prices) -> Vec<Vec<Choice>> {
    let mut families = Vec::new();
    for &arch in archs {
        let sizes = |options: LambdaOptions| {
            MEMORY_MB.map(|memory_mb| Target::Lambda {
                arch,
                memory_mb,
                options,
            })
        };
        let on_demand = LambdaOptions::default();
        let snapstart = LambdaOptions {
            snapshots: 1,
            ..on_demand
        };
        families.push(sizes(on_demand).map(Choice::Exactly).into());
        families.push(sizes(snapstart).map(Choice::Exactly).into());
        families.push(sizes(on_demand).map(Choice::AsMany).into());
        let task = |auto| Target::Fargate {
            arch,
            vcpus: 1.0,
            gb: 2.0,
            least: 1,
            auto,
        };
        families.push(vec![Choice::AsMany(task(None))]);
        families.push(scaled(|auto| task(Some(auto))));
    }
    if archs.contains(&Arch::Arm) {
        let sizes = MICROVMS.map(|(vcpus, gb)| Choice::Exactly(Target::MicroVm { vcpus, gb }));
        families.push(sizes.into());
    }
    for machine in machines {
        let managed = |auto| Target::Managed {
            machines: vec![machine.clone()],
            least: 3,
            auto,
        };
        let ec2 = |auto| Target::Ec2 {
            machine: machine.clone(),
            least: 1,
            auto,
        };
        // AWS takes machines of two vCPUs and more.
        let row = prices.get(&format!("ec2.{machine}"));
        if row.is_ok_and(|price| price.vcpus.unwrap_or(1.0) >= 2.0) {
            families.push(scaled(|auto| managed(Some(auto))));
        }
        families.push(vec![Choice::AsMany(ec2(None))]);
        families.push(scaled(|auto| ec2(Some(auto))));
    }
    families
}

fn scaled(target: impl Fn(u32) -> Target) -> Vec<Choice> {
    UTILISATIONS
        .map(|percent| Choice::Exactly(target(percent)))
        .into()
}

fn google() -> Vec<Vec<Choice>> {
    let target = |billing, least| Target::CloudRun {
        billing,
        vcpus: 1.0,
        gib: 0.5,
        least,
    };
    vec![
        vec![Choice::Exactly(target(CloudRunBilling::Request, 0))],
        vec![Choice::AsMany(target(CloudRunBilling::Request, 1))],
        vec![Choice::AsMany(target(CloudRunBilling::Instance, 1))],
        vec![Choice::AsMany(target(CloudRunBilling::WorkerPool, 1))],
    ]
}

fn azure() -> Vec<Vec<Choice>> {
    let sizes = |ready| [512, 2_048, 4_096].map(|memory_mb| Target::AzureFlex { memory_mb, ready });
    vec![
        sizes(0).map(Choice::Exactly).into(),
        sizes(1).map(Choice::AsMany).into(),
    ]
}

/// `target` with `count` environments, instances or hosts kept.
pub(super) fn with_count(target: &Target, count: u32) -> Target {
    let mut target = target.clone();
    match &mut target {
        Target::Lambda { options, .. } => options.provisioned = count,
        Target::Managed { least, .. }
        | Target::Ec2 { least, .. }
        | Target::Fargate { least, .. }
        | Target::CloudRun { least, .. } => *least = (*least).max(count),
        Target::AzureFlex { ready, .. } => *ready = count,
        Target::MicroVm { .. } | Target::Comprehend | Target::Api { .. } => {}
    }
    target
}

/// `target` with as many hosts as the rate needs, and no more kept than is usual.
pub(super) fn with_usual_count(target: &Target) -> Target {
    let mut target = target.clone();
    match &mut target {
        Target::Managed { least, .. } => *least = 3,
        Target::Ec2 { least, .. } | Target::Fargate { least, .. } => *least = 1,
        Target::CloudRun { least, billing, .. } => {
            *least = u32::from(*billing != CloudRunBilling::Request).min(*least);
        }
        _ => {}
    }
    target
}
