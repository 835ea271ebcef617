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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Function URL, an SDK's invoke call or an event source: no charge of its own.
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
        /// Provisioned concurrency, in environments.
        provisioned: u32,
        /// Front door.
        front: Front,
    },
    /// Lambda on EC2 machines of the account: EC2 price, a premium and the request fee.
    Managed {
        /// EC2 size.
        machine: String,
        /// Machines kept at least; the platform's default is three.
        least: u32,
    },
    /// Plain EC2 machines, with a balancer once there are several.
    Ec2 {
        /// EC2 size.
        machine: String,
        /// Machines kept at least.
        least: u32,
    },
    /// ECS on Fargate.
    Fargate {
        /// Instruction set.
        arch: Arch,
        /// vCPUs of a task.
        vcpus: f64,
        /// Memory of a task, GB.
        gb: f64,
    },
    /// Google Cloud Run.
    CloudRun {
        /// Billing mode.
        billing: CloudRunBilling,
        /// vCPUs of an instance.
        vcpus: f64,
        /// Memory of an instance, GiB.
        gib: f64,
    },
    /// Azure Functions, Flex Consumption, on demand.
    AzureFlex {
        /// Instance memory in MB: 512, 2,048 or 4,096.
        memory_mb: u32,
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
pub const SPELLINGS: &str = "lambda:ARCH:MB[:pc=N][:front=url|http-api|rest-api|alb], \
    managed:EC2-SIZE[:min=N], ec2:EC2-SIZE[:min=N], fargate:ARCH:VCPU:GB, \
    cloud-run:request|instance:VCPU:GIB, azure-flex:MB, comprehend, api:NAME:USD-PER-POST; ARCH is arm or x86";

impl Target {
    /// Whether it costs the same with no traffic, i.e. is an always-on baseline.
    pub fn always_on(&self) -> bool {
        matches!(
            self,
            Self::Managed { .. }
                | Self::Ec2 { .. }
                | Self::Fargate { .. }
                | Self::CloudRun {
                    billing: CloudRunBilling::Instance,
                    ..
                }
        )
    }
}

impl Target {
    /// As people call it.
    pub fn words(&self) -> String {
        match self {
            Self::Lambda {
                arch,
                memory_mb,
                provisioned,
                ..
            } => {
                let kept = match provisioned {
                    0 => String::new(),
                    kept => format!(" with {kept} provisioned"),
                };
                format!("Lambda at {memory_mb} MB ({}){kept}", arch.key())
            }
            Self::Managed { machine, .. } => format!("Lambda Managed Instances on {machine}"),
            Self::Ec2 { machine, .. } => format!("EC2 {machine}"),
            Self::Fargate { arch, vcpus, gb } => {
                format!("Fargate, {vcpus} vCPU and {gb} GB ({})", arch.key())
            }
            Self::CloudRun {
                billing,
                vcpus,
                gib,
            } => {
                let billing = match billing {
                    CloudRunBilling::Request => "request",
                    CloudRunBilling::Instance => "instance",
                };
                format!("Cloud Run by the {billing}, {vcpus} vCPU and {gib} GiB")
            }
            Self::AzureFlex { memory_mb } => format!("Azure Flex Consumption at {memory_mb} MB"),
            Self::Comprehend => "Amazon Comprehend".to_owned(),
            Self::Api { name, .. } => name.clone(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lambda {
                arch,
                memory_mb,
                provisioned,
                front,
            } => {
                write!(f, "lambda:{}:{memory_mb}", arch.key())?;
                if *provisioned > 0 {
                    write!(f, ":pc={provisioned}")?;
                }
                if *front != Front::Url {
                    write!(f, ":front={}", front.key())?;
                }
                Ok(())
            }
            Self::Managed { machine, least } => {
                write!(f, "managed:{machine}")?;
                if *least == 3 {
                    Ok(())
                } else {
                    write!(f, ":min={least}")
                }
            }
            Self::Ec2 { machine, least } => {
                write!(f, "ec2:{machine}")?;
                if *least == 1 {
                    Ok(())
                } else {
                    write!(f, ":min={least}")
                }
            }
            Self::Fargate { arch, vcpus, gb } => write!(f, "fargate:{}:{vcpus}:{gb}", arch.key()),
            Self::CloudRun {
                billing,
                vcpus,
                gib,
            } => {
                let billing = match billing {
                    CloudRunBilling::Request => "request",
                    CloudRunBilling::Instance => "instance",
                };
                write!(f, "cloud-run:{billing}:{vcpus}:{gib}")
            }
            Self::AzureFlex { memory_mb } => write!(f, "azure-flex:{memory_mb}"),
            Self::Comprehend => write!(f, "comprehend"),
            Self::Api { name, usd } => write!(f, "api:{name}:{usd}"),
        }
    }
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
            return Err(format!("target `{text}`: no option `{key}`"));
        }
        Ok(target)
    }
}

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
                provisioned: self.option("pc", 0)?,
                front: self.front()?,
            },
            "managed" => Target::Managed {
                machine: self.word("an EC2 size")?.to_owned(),
                least: self.option("min", 3)?,
            },
            "ec2" => Target::Ec2 {
                machine: self.word("an EC2 size")?.to_owned(),
                least: self.option("min", 1)?.max(1),
            },
            "fargate" => Target::Fargate {
                arch: self.arch()?,
                vcpus: self.within("vCPUs", 0.25, 16.0)?,
                gb: self.within("memory in GB", 0.5, 120.0)?,
            },
            "cloud-run" => Target::CloudRun {
                billing: match self.word("request or instance")? {
                    "request" => CloudRunBilling::Request,
                    "instance" => CloudRunBilling::Instance,
                    other => return Err(format!("`{other}` is neither request nor instance")),
                },
                vcpus: self.within("vCPUs", 0.08, 8.0)?,
                gib: self.within("memory in GiB", 0.125, 32.0)?,
            },
            "azure-flex" => Target::AzureFlex {
                memory_mb: match self.word("memory in MB")? {
                    "512" => 512,
                    "2048" => 2_048,
                    "4096" => 4_096,
                    other => return Err(format!("{other} MB is not 512, 2048 or 4096")),
                },
            },
            "comprehend" => Target::Comprehend,
            "api" => Target::Api {
                name: self.word("a name")?.to_owned(),
                usd: self.within("dollars a post", 0.0, 1_000.0)?,
            },
            other => return Err(format!("no family `{other}`; there are {SPELLINGS}")),
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

    fn front(&mut self) -> Result<Front, String> {
        Ok(match self.take("front") {
            None | Some("url") => Front::Url,
            Some("http-api") => Front::HttpApi,
            Some("rest-api") => Front::RestApi,
            Some("alb") => Front::Alb,
            Some(other) => {
                return Err(format!(
                    "front `{other}` is none of url, http-api, rest-api, alb"
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
            "managed:c7g.xlarge",
            "ec2:c7g.medium",
            "ec2:c7g.medium:min=2",
            "fargate:arm:0.25:0.5",
            "cloud-run:request:1:0.5",
            "cloud-run:instance:2:1",
            "azure-flex:512",
            "comprehend",
            "api:other:0.0003",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_bad_target_says_what_is_wrong() {
        for (text, reason) in [
            ("", "no family"),
            ("lamda:arm:512", "no family `lamda`"),
            ("lambda:mips:512", "neither arm nor x86"),
            ("lambda:arm", "memory in MB is missing"),
            ("lambda:arm:64", "not between 128 and 10240"),
            ("lambda:arm:NaN", "not between"),
            ("lambda:arm:512:pc=many", "pc is `many`"),
            ("lambda:arm:512:min=1", "no option `min`"),
            ("lambda:arm:512:9", "`9` is too much"),
            ("ec2", "an EC2 size is missing"),
            ("azure-flex:1024", "not 512, 2048 or 4096"),
            ("cloud-run:both:1:1", "neither request nor instance"),
        ] {
            let message = text.parse::<Target>().unwrap_err();
            assert!(message.contains(reason), "{text}: {message}");
        }
    }
}
