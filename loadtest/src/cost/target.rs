//! Where the posts could be scored, as named on the command line:
//! `lambda:arm:512`, `ec2:c7g.medium`, `cloud-run:request:1:0.5` ...

use std::fmt;
use std::str::FromStr;

/// Instruction set a platform prices by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64.
    X86,
    /// arm64 (Graviton).
    Arm,
}

impl Arch {
    /// As it stands in the price table.
    pub fn key(self) -> &'static str {
        match self {
            Self::X86 => "x86",
            Self::Arm => "arm",
        }
    }
}

/// What stands between the client and a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Front {
    /// Function URL, an SDK's invoke call or an event source: no charge of its own.
    #[default]
    Url,
    /// API Gateway, HTTP API.
    HttpApi,
    /// API Gateway, REST API.
    RestApi,
    /// Application Load Balancer.
    Alb,
}

impl Front {
    fn key(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::HttpApi => "http-api",
            Self::RestApi => "rest-api",
            Self::Alb => "alb",
        }
    }
}

/// How Cloud Run bills an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudRunBilling {
    /// While it handles requests, rounded up to 100 ms.
    Request,
    /// From start to stop.
    Instance,
    /// From start to stop, in a pool of a fixed size that pulls its work from a queue.
    WorkerPool,
}

impl CloudRunBilling {
    fn key(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Instance => "instance",
            Self::WorkerPool => "worker-pool",
        }
    }
}

/// What a function on Lambda is configured with, beside its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LambdaOptions {
    /// Published versions that keep a SnapStart snapshot; 0 without SnapStart.
    pub snapshots: u32,
    /// Provisioned concurrency, in environments.
    pub provisioned: u32,
    /// Front door.
    pub front: Front,
    /// Whether replies are streamed, which is billed by their size.
    pub stream: bool,
    /// Operations of a durable function that a request takes.
    pub durable: u32,
}

/// One place to run, or one service to call.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// AWS Lambda, one request per environment.
    Lambda {
        /// Instruction set.
        arch: Arch,
        /// Memory in MB, 128 to 10,240.
        memory_mb: u32,
        /// Everything else.
        options: LambdaOptions,
    },
    /// A Lambda MicroVM (arm64), suspended while it is idle.
    MicroVm {
        /// Its vCPUs.
        vcpus: f64,
        /// Its memory, GB.
        gb: f64,
    },
    /// Lambda on EC2 machines of the account: EC2 price, a premium and the request fee.
    Managed {
        /// EC2 sizes that the capacity provider allows.
        machines: Vec<String>,
        /// Machines kept at least; the platform's default is three.
        least: u32,
        /// Utilisation in percent that their number follows; a fixed number without.
        auto: Option<u32>,
    },
    /// Plain EC2 machines, with a balancer once there are several.
    Ec2 {
        /// EC2 size.
        machine: String,
        /// Machines kept at least.
        least: u32,
        /// Utilisation in percent that their number follows; a fixed number without.
        auto: Option<u32>,
    },
    /// ECS on Fargate.
    Fargate {
        /// Instruction set.
        arch: Arch,
        /// vCPUs of a task.
        vcpus: f64,
        /// Memory of a task, GB.
        gb: f64,
        /// Tasks kept at least.
        least: u32,
        /// Utilisation in percent that their number follows; a fixed number without.
        auto: Option<u32>,
    },
    /// Google Cloud Run.
    CloudRun {
        /// Billing mode.
        billing: CloudRunBilling,
        /// vCPUs of an instance.
        vcpus: f64,
        /// Memory of an instance, GiB.
        gib: f64,
        /// Instances kept at least.
        least: u32,
    },
    /// Azure Functions, Flex Consumption.
    AzureFlex {
        /// Instance memory in MB: 512, 2,048 or 4,096.
        memory_mb: u32,
        /// Instances that are always ready.
        ready: u32,
    },
    /// Amazon Comprehend's sentiment call at list price.
    Comprehend,
    /// Any service paid by the post.
    Api {
        /// Its name in the report.
        name: String,
        /// US dollars a post.
        usd: f64,
    },
}

/// What may stand after `--target`.
pub const SPELLINGS: &str = "lambda:ARCH:MB[:snapstart[=VERSIONS]][:pc=N][:stream][:durable=OPERATIONS][:front=url|http-api|rest-api|alb], \
    microvm:VCPU:GB, managed:EC2-SIZE[+EC2-SIZE...][:min=N][:auto=PERCENT], ec2:EC2-SIZE[:min=N][:auto=PERCENT], \
    fargate:ARCH:VCPU:GB[:min=N][:auto=PERCENT], cloud-run:request|instance|worker-pool:VCPU:GIB[:min=N], \
    azure-flex:MB[:ready=N], comprehend, api:NAME:USD-PER-POST; ARCH is arm or x86, auto scales hosts to that utilisation";

impl Target {
    /// Whether it costs the same with no traffic, i.e. is an always-on baseline.
    pub fn always_on(&self) -> bool {
        match self {
            Self::Managed { .. } | Self::Ec2 { .. } | Self::Fargate { .. } => true,
            Self::CloudRun { billing, .. } => *billing != CloudRunBilling::Request,
            _ => false,
        }
    }

    /// As people call it.
    pub fn words(&self) -> String {
        let scaled = |auto: &Option<u32>| match auto {
            None => String::new(),
            Some(percent) => format!(", scaled to {percent}%"),
        };
        match self {
            Self::Lambda {
                arch,
                memory_mb,
                options,
            } => {
                let mut words = format!("Lambda at {memory_mb} MB ({})", arch.key());
                if options.snapshots > 0 {
                    words.push_str(" with SnapStart");
                }
                if options.provisioned > 0 {
                    words.push_str(&format!(" with {} provisioned", options.provisioned));
                }
                words
            }
            Self::MicroVm { vcpus, gb } => format!("Lambda MicroVM, {vcpus} vCPU and {gb} GB"),
            Self::Managed { machines, auto, .. } => format!(
                "Managed Instances on {}{}",
                machines.join(" or "),
                scaled(auto)
            ),
            Self::Ec2 { machine, auto, .. } => format!("EC2 {machine}{}", scaled(auto)),
            Self::Fargate {
                arch,
                vcpus,
                gb,
                auto,
                ..
            } => format!(
                "Fargate, {vcpus} vCPU and {gb} GB ({}){}",
                arch.key(),
                scaled(auto)
            ),
            Self::CloudRun {
                billing,
                vcpus,
                gib,
                ..
            } => match billing {
                CloudRunBilling::WorkerPool => {
                    format!("Cloud Run worker pool, {vcpus} vCPU and {gib} GiB")
                }
                billing => format!(
                    "Cloud Run by the {}, {vcpus} vCPU and {gib} GiB",
                    billing.key()
                ),
            },
            Self::AzureFlex { memory_mb, ready } => {
                let kept = match ready {
                    0 => String::new(),
                    ready => format!(" with {ready} always ready"),
                };
                format!("Azure Flex Consumption at {memory_mb} MB{kept}")
            }
            Self::Comprehend => "Amazon Comprehend".to_owned(),
            Self::Api { name, .. } => name.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = |f: &mut fmt::Formatter<'_>, least: u32, usual: u32, auto: &Option<u32>| {
            if least != usual {
                write!(f, ":min={least}")?;
            }
            match auto {
                Some(percent) => write!(f, ":auto={percent}"),
                None => Ok(()),
            }
        };
        match self {
            Self::Lambda {
                arch,
                memory_mb,
                options,
            } => {
                write!(f, "lambda:{}:{memory_mb}", arch.key())?;
                match options.snapshots {
                    0 => {}
                    1 => f.write_str(":snapstart")?,
                    versions => write!(f, ":snapstart={versions}")?,
                }
                if options.provisioned > 0 {
                    write!(f, ":pc={}", options.provisioned)?;
                }
                if options.stream {
                    f.write_str(":stream")?;
                }
                if options.durable > 0 {
                    write!(f, ":durable={}", options.durable)?;
                }
                if options.front != Front::Url {
                    write!(f, ":front={}", options.front.key())?;
                }
                Ok(())
            }
            Self::MicroVm { vcpus, gb } => write!(f, "microvm:{vcpus}:{gb}"),
            Self::Managed {
                machines,
                least,
                auto,
            } => {
                write!(f, "managed:{}", machines.join("+"))?;
                hosts(f, *least, 3, auto)
            }
            Self::Ec2 {
                machine,
                least,
                auto,
            } => {
                write!(f, "ec2:{machine}")?;
                hosts(f, *least, 1, auto)
            }
            Self::Fargate {
                arch,
                vcpus,
                gb,
                least,
                auto,
            } => {
                write!(f, "fargate:{}:{vcpus}:{gb}", arch.key())?;
                hosts(f, *least, 1, auto)
            }
            Self::CloudRun {
                billing,
                vcpus,
                gib,
                least,
            } => {
                write!(f, "cloud-run:{}:{vcpus}:{gib}", billing.key())?;
                hosts(f, *least, usual_least(*billing), &None)
            }
            Self::AzureFlex { memory_mb, ready } => {
                write!(f, "azure-flex:{memory_mb}")?;
                match ready {
                    0 => Ok(()),
                    ready => write!(f, ":ready={ready}"),
                }
            }
            Self::Comprehend => write!(f, "comprehend"),
            Self::Api { name, usd } => write!(f, "api:{name}:{usd}"),
        }
    }
}

/// Instances that Cloud Run keeps unless told otherwise.
fn usual_least(billing: CloudRunBilling) -> u32 {
    u32::from(billing != CloudRunBilling::Request)
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let family = parts.next().unwrap_or_default();
        let mut words = Words {
            positional: Vec::new(),
            options: Vec::new(),
        };
        for part in parts {
            match part.split_once('=') {
                Some((key, value)) => words.options.push((key, value)),
                None if FLAGS.contains(&part) => words.options.push((part, "1")),
                None => words.positional.push(part),
            }
        }
        words.positional.reverse();
        let target = words
            .target(family)
            .map_err(|reason| format!("target `{text}`: {reason}"))?;
        if let Some(extra) = words.positional.pop() {
            return Err(format!("target `{text}`: `{extra}` is too much"));
        }
        if let Some((key, _)) = words.options.pop() {
            return Err(format!("target `{text}`: unknown option `{key}`"));
        }
        Ok(target)
    }
}

/// Options that need no value.
const FLAGS: [&str; 2] = ["snapstart", "stream"];

/// What stands after the family, taken word by word.
struct Words<'a> {
    positional: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn target(&mut self, family: &str) -> Result<Target, String> {
        Ok(match family {
            "lambda" => Target::Lambda {
                arch: self.arch()?,
                memory_mb: self.within("memory in MB", 128.0, 10_240.0)? as u32,
                options: self.lambda_options()?,
            },
            "microvm" => Target::MicroVm {
                vcpus: self.within("vCPUs", 0.25, 16.0)?,
                gb: self.within("memory in GB", 0.5, 32.0)?,
            },
            "managed" => Target::Managed {
                machines: self
                    .word("an EC2 size")?
                    .split('+')
                    .map(str::to_owned)
                    .collect(),
                least: self.option("min", 3)?,
                auto: self.auto()?,
            },
            "ec2" => Target::Ec2 {
                machine: self.word("an EC2 size")?.to_owned(),
                least: self.option("min", 1)?.max(1),
                auto: self.auto()?,
            },
            "fargate" => Target::Fargate {
                arch: self.arch()?,
                vcpus: self.within("vCPUs", 0.25, 16.0)?,
                gb: self.within("memory in GB", 0.5, 120.0)?,
                least: self.option("min", 1)?.max(1),
                auto: self.auto()?,
            },
            "cloud-run" => {
                let billing = match self.word("request, instance or worker-pool")? {
                    "request" => CloudRunBilling::Request,
                    "instance" => CloudRunBilling::Instance,
                    "worker-pool" => CloudRunBilling::WorkerPool,
                    other => {
                        return Err(format!(
                            "`{other}` is unknown; expected request, instance or worker-pool"
                        ));
                    }
                };
                let usual = usual_least(billing);
                Target::CloudRun {
                    billing,
                    vcpus: self.within("vCPUs", 0.08, 8.0)?,
                    gib: self.within("memory in GiB", 0.125, 32.0)?,
                    least: self.option("min", usual)?.max(usual),
                }
            }
            "azure-flex" => Target::AzureFlex {
                memory_mb: match self.word("memory in MB")? {
                    "512" => 512,
                    "2048" => 2_048,
                    "4096" => 4_096,
                    other => return Err(format!("{other} MB is not 512, 2048 or 4096")),
                },
                ready: self.option("ready", 0)?,
            },
            "comprehend" => Target::Comprehend,
            "api" => Target::Api {
                name: self.word("a name")?.to_owned(),
                usd: self.within("dollars a post", 0.0, 1_000.0)?,
            },
            other => return Err(format!("unknown family `{other}`; expected {SPELLINGS}")),
        })
    }

    fn word(&mut self, what: &str) -> Result<&'a str, String> {
        self.positional
            .pop()
            .filter(|word| !word.is_empty())
            .ok_or_else(|| format!("{what} is missing"))
    }

    fn arch(&mut self) -> Result<Arch, String> {
        match self.word("arm or x86")? {
            "arm" | "arm64" => Ok(Arch::Arm),
            "x86" | "x86_64" => Ok(Arch::X86),
            other => Err(format!("`{other}` is neither arm nor x86")),
        }
    }

    fn within(&mut self, what: &str, low: f64, high: f64) -> Result<f64, String> {
        let word = self.word(what)?;
        word.parse()
            .ok()
            .filter(|value| (low..=high).contains(value))
            .ok_or_else(|| format!("{what} is `{word}`, not between {low} and {high}"))
    }

    fn take(&mut self, key: &str) -> Option<&'a str> {
        let place = self.options.iter().position(|(name, _)| *name == key)?;
        Some(self.options.swap_remove(place).1)
    }

    fn option(&mut self, key: &str, default: u32) -> Result<u32, String> {
        self.take(key).map_or(Ok(default), |word| {
            word.parse()
                .ok()
                .filter(|value| *value <= 100_000)
                .ok_or_else(|| format!("{key} is `{word}`, not a number up to 100000"))
        })
    }

    fn auto(&mut self) -> Result<Option<u32>, String> {
        match self.option("auto", 0)? {
            0 => Ok(None),
            percent if percent < 100 => Ok(Some(percent)),
            percent => Err(format!("auto is {percent}%, not below 100")),
        }
    }

    fn lambda_options(&mut self) -> Result<LambdaOptions, String> {
        let options = LambdaOptions {
            snapshots: self.option("snapstart", 0)?,
            provisioned: self.option("pc", 0)?,
            front: self.front()?,
            stream: self.option("stream", 0)? > 0,
            durable: self.option("durable", 0)?,
        };
        if options.snapshots > 0 && options.provisioned > 0 {
            return Err("SnapStart and provisioned concurrency exclude each other".to_owned());
        }
        Ok(options)
    }

    fn front(&mut self) -> Result<Front, String> {
        Ok(match self.take("front") {
            None | Some("url") => Front::Url,
            Some("http-api") => Front::HttpApi,
            Some("rest-api") => Front::RestApi,
            Some("alb") => Front::Alb,
            Some(other) => {
                return Err(format!(
                    "front `{other}` is unknown; expected url, http-api, rest-api or alb"
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_prints_as_it_is_written() {
        for text in [
            "lambda:arm:512",
            "lambda:x86:1769:pc=5",
            "lambda:arm:1769:pc=5:front=http-api",
            "lambda:arm:512:snapstart",
            "lambda:arm:512:snapstart=3:stream:durable=4",
            "microvm:0.25:0.5",
            "managed:c7g.xlarge",
            "managed:c7i.large+c7a.large:min=2:auto=60",
            "ec2:c7g.medium",
            "ec2:c7g.medium:min=2",
            "ec2:c7g.medium:auto=60",
            "fargate:arm:0.25:0.5",
            "fargate:arm:0.25:0.5:min=2:auto=50",
            "cloud-run:request:1:0.5",
            "cloud-run:request:1:0.5:min=2",
            "cloud-run:instance:2:1",
            "cloud-run:worker-pool:2:1:min=4",
            "azure-flex:512",
            "azure-flex:512:ready=2",
            "comprehend",
            "api:other:0.0003",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_target_says_what_is_wrong() {
        for (text, reason) in [
            ("", "unknown family"),
            ("lamda:arm:512", "unknown family `lamda`"),
            ("lambda:mips:512", "neither arm nor x86"),
            ("lambda:arm", "memory in MB is missing"),
            ("lambda:arm:64", "not between 128 and 10240"),
            ("lambda:arm:NaN", "not between"),
            ("lambda:arm:512:pc=many", "pc is `many`"),
            ("lambda:arm:512:min=1", "unknown option `min`"),
            ("lambda:arm:512:9", "`9` is too much"),
            ("ec2", "an EC2 size is missing"),
            ("azure-flex:1024", "not 512, 2048 or 4096"),
            ("cloud-run:both:1:1", "expected request, instance"),
            ("lambda:arm:512:snapstart:pc=1", "exclude each other"),
            ("lambda:arm:512:snapstart=all", "snapstart is `all`"),
            ("microvm:0.1:0.5", "not between 0.25 and 16"),
            ("ec2:c7g.medium:auto=100", "not below 100"),
            ("ec2:c7g.medium:snapstart", "unknown option `snapstart`"),
        ] {
            let message = text.parse::<Target>().unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
