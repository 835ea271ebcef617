//! The bill of any target.

use super::bill::Bill;
use super::hosts::{FargateTask, HostCount, Machines};
use super::prices::{Price, PriceError, Prices};
use super::serverless::{self, CloudRunInstance};
use super::target::Target;
use super::workload::Workload;
use super::{hosts, lambda, microvm};

/// One month of `workload` on `target`, with its discount taken off.
pub fn bill(workload: &Workload, prices: &Prices, target: &Target) -> Result<Bill, PriceError> {
    let mut bill = list_price(workload, prices, target)?;
    let share = workload.discount_of(target);
    if share > 0.0 {
        bill.discount(share);
    }
    Ok(bill)
}

fn list_price(workload: &Workload, prices: &Prices, target: &Target) -> Result<Bill, PriceError> {
    match target {
        Target::Lambda {
            arch,
            memory_mb,
            options,
        } => lambda::bill(
            workload,
            prices,
            target,
            &lambda::FunctionConfig {
                arch: *arch,
                memory_mb: *memory_mb,
                options: *options,
            },
        ),
        Target::MicroVm { vcpus, gb } => microvm::bill(workload, prices, target, *vcpus, *gb),
        Target::Managed {
            machines,
            least,
            auto,
        } => {
            let count = HostCount {
                least: *least,
                auto: *auto,
            };
            hosts::managed_instances(workload, prices, target, machines, count)
        }
        Target::Ec2 {
            machine,
            least,
            auto,
        } => {
            let machines = Machines {
                machine,
                count: HostCount {
                    least: *least,
                    auto: *auto,
                },
            };
            hosts::ec2(workload, prices, target, &machines)
        }
        Target::Fargate {
            arch,
            vcpus,
            gb,
            least,
            auto,
        } => {
            let task = FargateTask {
                arch: *arch,
                vcpus: *vcpus,
                gb: *gb,
            };
            let count = HostCount {
                least: *least,
                auto: *auto,
            };
            hosts::fargate(workload, prices, target, task, count)
        }
        Target::CloudRun {
            billing,
            vcpus,
            gib,
            least,
        } => {
            let instance = CloudRunInstance {
                billing: *billing,
                vcpus: *vcpus,
                gib: *gib,
                least: *least,
            };
            serverless::cloud_run(workload, prices, target, instance)
        }
        Target::AzureFlex { memory_mb, ready } => {
            serverless::azure_flex(workload, prices, target, *memory_mb, *ready)
        }
        Target::Comprehend => serverless::comprehend(workload, prices),
        Target::Api { name, usd } => {
            let mut bill = Bill::default();
            let price = Price {
                item: format!("api.{name}"),
                unit: "post".to_owned(),
                usd: *usd,
                as_of: "as given".to_owned(),
                region: String::new(),
                source: "--target".to_owned(),
                vcpus: None,
                gb: None,
            };
            bill.add("calls", &[(workload.posts(), "posts")], &price);
            Ok(bill)
        }
    }
}
