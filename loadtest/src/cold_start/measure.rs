//! One cold start: one instance, two events, and what it took.

use super::candidate::Candidate;
use super::deployment::Deployment;
use super::options::{Cache, ColdStartOptions, Condition};
use super::page_cache::{evict, files_below, residency};
use crate::clock::ms;
use crate::event::{POST, check_reply, function_url};
use crate::lambda_memory::ONE_VCPU_MB;
use crate::platform::fault::{Fault, FaultKind};
use crate::platform::function::{Function, SnapStart};
use crate::platform::instance::{InitFault, Instance, Settings};
use crate::platform::process::Usage;
use crate::runtime_api::{CompletedInvocation, InvocationOutcome};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// One cold start that went well. Times are in milliseconds; those of a restored instance begin
/// when its process goes on, and not with `exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// From `exec` to the first request for an event: the init phase.
    pub first_next_ms: f64,
    /// From `exec` to the first response.
    pub first_answer_ms: f64,
    /// From the first event's delivery to its response.
    pub first_event_ms: f64,
    /// The same of the second event.
    pub second_event_ms: f64,
    /// What the instance had used after both.
    pub usage: Option<Usage>,
    /// Share of the function's files in the page cache before the run, in percent.
    pub resident_before_percent: Option<f64>,
    /// MiB of the function's files in the page cache after it: what it had read, and
    /// the kernel read ahead.
    pub resident_after_mib: Option<f64>,
    /// Phases that the function itself tells of, in milliseconds.
    pub phases: BTreeMap<String, f64>,
}

/// What all runs share.
pub(super) struct Bench {
    settings: Settings,
    /// In turn.
    events: Vec<Bytes>,
    evict: Vec<PathBuf>,
    env: Vec<(String, String)>,
    timeout: Duration,
    copies: RefCell<HashMap<(String, Cache), Rc<Deployment>>>,
}

impl Bench {
    pub(super) fn new(options: &ColdStartOptions) -> Result<Self> {
        let posts: Vec<String> = match &options.posts {
            None => vec![POST.to_owned()],
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("reading {}", path.display()))?
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(str::to_owned)
                .collect(),
        };
        ensure!(!posts.is_empty(), "no posts to send");
        let mut env = vec![("COLDREAD_TIMINGS".to_owned(), "1".to_owned())];
        env.extend(options.env.iter().cloned());
        Ok(Self {
            settings: options.settings.clone(),
            events: posts
                .iter()
                .map(|post| function_url(&options.path, &json!({ "text": post })))
                .collect(),
            evict: files_below(&options.evict)?,
            env,
            timeout: options.timeout,
            copies: RefCell::default(),
        })
    }

    /// The copy that all runs of a function in this state of the cache share, so that
    /// the disk need not hold one for each: the first, which is `fresh` or older.
    pub(super) fn keep(&self, name: &str, cache: Cache, fresh: Rc<Deployment>) -> Rc<Deployment> {
        let mut copies = self.copies.borrow_mut();
        Rc::clone(copies.entry((name.to_owned(), cache)).or_insert(fresh))
    }

    /// Runs one cold start. `files` are the function's own; more are found when
    /// `discover` is given.
    pub(super) async fn run(
        &self,
        candidate: &Candidate,
        condition: Condition,
        files: &[PathBuf],
        number: usize,
        discover: Option<&mut Vec<PathBuf>>,
    ) -> Result<Result<Sample, Fault>> {
        let mut files = files.to_vec();
        files.extend(self.evict.iter().cloned());
        let mut before = None;
        if condition.cache == Cache::Dropped {
            evict(&files)?;
        }
        if !files.is_empty() {
            before = Some(residency(&files)?);
        }
        let measured = self.instance(candidate, condition, number, discover).await;
        let mut sample = match measured {
            Ok(sample) => sample,
            Err(fault) => return Ok(Err(fault)),
        };
        if let Some(before) = before {
            sample.resident_before_percent = Some(before.percent());
            let after = residency(&files)?.resident;
            sample.resident_after_mib = Some(after as f64 / (1 << 20) as f64);
        }
        Ok(Ok(sample))
    }

    async fn instance(
        &self,
        candidate: &Candidate,
        condition: Condition,
        number: usize,
        discover: Option<&mut Vec<PathBuf>>,
    ) -> Result<Sample, Fault> {
        let mut settings = self.settings.clone();
        if condition.memory_mb.is_none() {
            settings.hierarchy = None;
        }
        // Where there are no limits, the variable must name a size all the same.
        let memory_mb = condition.memory_mb.unwrap_or(ONE_VCPU_MB);
        let mut function = Function::new(&candidate.name, candidate.program.clone(), memory_mb);
        function.timeout = self.timeout;
        function.env.clone_from(&self.env);
        function.snapstart = candidate.restored.then(SnapStart::default);
        let [first, second] =
            [number, number + 1].map(|turn| self.events[turn % self.events.len()].clone());

        let started = if candidate.restored {
            match Instance::snapshot(&function, &settings).await {
                Ok(snapshot) => {
                    snapshot
                        .restore(&settings, Duration::ZERO, Some(first))
                        .await
                }
                Err(fault) => Err(fault),
            }
        } else {
            Instance::start(&function, &settings, settings.init_limit, Some(first)).await
        };
        let (instance, submitted) = started.map_err(|InitFault { fault, output }| {
            let said = output.lines().next_back().unwrap_or_default();
            Fault::new(fault.kind, format!("{} {said}", fault.detail))
        })?;
        let submitted = submitted.ok_or_else(|| Fault::new(FaultKind::Launch, "no event"))?;
        let first = sound(instance.finish(submitted).await?)?;
        instance.settle().await?;
        let second = sound(instance.invoke(second).await?)?;
        instance.settle().await?;
        if let Some(files) = discover {
            *files = instance.mapped_files();
        }
        let (start, first_next_ms) = match instance.restored() {
            Some(restored) => (restored.resumed, ms(restored.hooks)),
            None => {
                let exec = instance.started();
                (exec, instance.ready().ms_since(exec))
            }
        };
        Ok(Sample {
            first_next_ms,
            first_answer_ms: first.answered.ms_since(start),
            first_event_ms: first.answered.ms_since(first.delivered),
            second_event_ms: second.answered.ms_since(second.delivered),
            usage: instance.usage(),
            resident_before_percent: None,
            resident_after_mib: None,
            phases: phases(&instance.output()),
        })
    }
}

/// The response, if it is an HTTP response of status 200.
fn sound(answer: CompletedInvocation) -> Result<CompletedInvocation, Fault> {
    let InvocationOutcome::Response(body) = &answer.outcome else {
        return Err(Fault::new(FaultKind::Garbage, "no response"));
    };
    match check_reply(body) {
        Ok(()) => Ok(answer),
        Err(what) => Err(Fault::new(FaultKind::Garbage, what)),
    }
}

/// The phases in lines such as `{"timings":{"model_ms":3.1}}`; others are the
/// function's log, and keys without a number are phases it has not come to.
fn phases(output: &str) -> BTreeMap<String, f64> {
    let mut phases = BTreeMap::new();
    for line in output.lines().filter(|line| line.contains("\"timings\"")) {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        for (name, value) in line["timings"].as_object().into_iter().flatten() {
            if let Some(ms) = value.as_f64() {
                phases.insert(name.clone(), ms);
            }
        }
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_found_between_other_lines() {
        let output = "starting\n{\"timings\":{\"model_ms\":2.5,\"tokenizer_ms\":null}}\n\
                      {\"timings\":7}\n{\"timings\":\n{\"level\":\"INFO\"}\n\
                      {\"timings\":{\"first_inference_ms\":1}}\n";
        let expected = [("first_inference_ms", 1.0), ("model_ms", 2.5)];
        assert_eq!(
            phases(output),
            expected.map(|(name, ms)| (name.to_owned(), ms)).into()
        );
        assert!(phases("").is_empty());
    }
}
