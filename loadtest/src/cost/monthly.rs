//! The bill of any target.

use super::bill::Bill;
use super::prices::{Price, PriceError, Prices};
use super::target::Target;
use super::workload::Workload;
use super::{hosts, lambda};

/// One month of `workload` on `target`.
pub fn bill(workload: &Workload, prices: &Prices, target: &Target) -> Result<Bill, PriceError> {
    match target {
        Target::Lambda {
            arch,
            memory_mb,
            provisioned,
            front,
        } => lambda::bill(
            workload,
            prices,
            target,
            &lambda::FunctionConfig {
                arch: *arch,
                memory_mb: *memory_mb,
                provisioned: *provisioned,
                front: *front,
            },
        ),
        Target::Managed { machine, least } => {
            let hosts = hosts::Machines {
                machine,
                least: *least,
            };
            hosts::managed_instances(workload, prices, target, &hosts)
        }
        Target::Ec2 { machine, least } => {
            let hosts = hosts::Machines {
                machine,
                least: *least,
            };
            hosts::ec2(workload, prices, target, &hosts)
        }
        Target::Fargate { arch, vcpus, gb } => {
            let task = hosts::FargateTask {
                arch: *arch,
                vcpus: *vcpus,
                gb: *gb,
            };
            hosts::fargate(workload, prices, target, task)
        }
        Target::CloudRun {
            billing,
            vcpus,
            gib,
        } => {
            let instance = hosts::CloudRunInstance {
                billing: *billing,
                vcpus: *vcpus,
                gib: *gib,
            };
            hosts::cloud_run(workload, prices, target, instance)
        }
        Target::AzureFlex { memory_mb } => hosts::azure_flex(workload, prices, target, *memory_mb),
        Target::Comprehend => hosts::comprehend(workload, prices),
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
