//! Which other services' formats are served, and at which paths.

use super::{ConfigError, filled};

/// Settings of other services' formats, from flags and variables.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Other services' clients")]
pub struct CompatArgs {
    /// Other services whose clients are served, separated by commas, or `none`. A service
    /// that is not listed has no route.
    #[arg(
        long,
        env = "COLDREAD_COMPAT",
        default_value = "huggingface,comprehend,tei,azure,google,sagemaker,vertex",
        value_name = "LIST"
    )]
    pub compat: String,

    /// Path prefix of the routes of other services' clients, such as /other. The routes of
    /// SageMaker and Vertex AI, which these platforms prescribe, have no prefix.
    #[arg(
        long,
        env = "COLDREAD_COMPAT_PREFIX",
        default_value = "",
        value_name = "PATH"
    )]
    pub compat_prefix: String,
}

/// A service whose clients can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Hugging Face text-classification.
    HuggingFace,
    /// Amazon Comprehend.
    Comprehend,
    /// Text Embeddings Inference's `/predict`.
    Tei,
    /// Azure AI Language.
    Azure,
    /// Google Cloud Natural Language v2.
    Google,
    /// Containers on Amazon SageMaker.
    SageMaker,
    /// Containers on Vertex AI.
    Vertex,
}

impl Service {
    /// All of them, by their names in `--compat`.
    pub const ALL: [(&'static str, Self); 7] = [
        ("huggingface", Self::HuggingFace),
        ("comprehend", Self::Comprehend),
        ("tei", Self::Tei),
        ("azure", Self::Azure),
        ("google", Self::Google),
        ("sagemaker", Self::SageMaker),
        ("vertex", Self::Vertex),
    ];
}

/// Which formats are served where, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compat {
    /// The services whose clients are served.
    pub services: Vec<Service>,
    /// Path prefix of their routes: empty, or with a leading and without a trailing slash.
    pub prefix: String,
    /// Where Vertex AI asks for health, if this is Vertex AI.
    pub vertex_health: Option<String>,
    /// Where Vertex AI sends instances, if this is Vertex AI.
    pub vertex_predict: Option<String>,
}

impl Default for Compat {
    fn default() -> Self {
        Self {
            services: Service::ALL.map(|(_, service)| service).to_vec(),
            prefix: String::new(),
            vertex_health: None,
            vertex_predict: None,
        }
    }
}

impl Compat {
    /// Whether a service's clients are served.
    pub fn speaks(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    /// The names of the services whose clients are served.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let spoken = Service::ALL.iter().filter(|(_, it)| self.speaks(*it));
        spoken.map(|(name, _)| *name)
    }
}

impl CompatArgs {
    /// Reads the list and checks the paths; Vertex AI's are looked up through `env`.
    pub fn resolve(&self, env: impl Fn(&str) -> Option<String>) -> Result<Compat, ConfigError> {
        let services = services(&self.compat)?;
        let prefix = self.compat_prefix.trim().trim_end_matches('/');
        if !prefix.is_empty() {
            check_path("--compat-prefix (COLDREAD_COMPAT_PREFIX)", prefix)?;
        }
        let route = |name: &'static str| {
            let path = filled(env(name)).filter(|_| services.contains(&Service::Vertex));
            let path = path.map(|path| path.trim().to_owned());
            path.map(|path| check_path(name, &path).map(|()| path))
                .transpose()
        };
        let vertex_health = route("AIP_HEALTH_ROUTE")?;
        let vertex_predict = route("AIP_PREDICT_ROUTE")?;
        Ok(Compat {
            prefix: prefix.to_owned(),
            vertex_health,
            vertex_predict,
            services,
        })
    }
}

fn services(list: &str) -> Result<Vec<Service>, ConfigError> {
    let names = list.split(',').map(str::trim).filter(|it| !it.is_empty());
    let names: Vec<&str> = names.collect();
    match names[..] {
        [] => return Ok(Compat::default().services),
        ["none"] => return Ok(Vec::new()),
        _ => {}
    }
    let service = |name: &str| {
        let known = Service::ALL.into_iter().find(|(known, _)| *known == name);
        known.map(|(_, service)| service).ok_or_else(|| {
            let all = Service::ALL.map(|(name, _)| name).join(", ");
            ConfigError::Compat(format!(
                "--compat (COLDREAD_COMPAT) has `{name}`; expected `none`, or a list of {all}"
            ))
        })
    };
    names.into_iter().map(service).collect()
}

/// Rejects paths that no request can have, and those that a router would take for a pattern.
fn check_path(name: &str, path: &str) -> Result<(), ConfigError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@%".contains(&byte);
    if path.starts_with('/') && !path.contains("//") && path.bytes().all(is_plain) {
        return Ok(());
    }
    Err(ConfigError::Compat(format!(
        "{name} is `{path}`; expected a path such as /predict"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(compat: &str, prefix: &str, env: &[(&str, &str)]) -> Result<Compat, String> {
        let args = CompatArgs {
            compat: compat.to_owned(),
            compat_prefix: prefix.to_owned(),
        };
        let env = |name: &str| {
            let found = env.iter().find(|(n, _)| *n == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        args.resolve(env).map_err(|error| error.to_string())
    }

    #[test]
    fn the_list_says_who_is_served() {
        let names = |list: &str| -> Vec<&'static str> {
            resolve(list, "", &[]).expect(list).names().collect()
        };
        assert_eq!(names(" azure, tei ,"), ["tei", "azure"]);
        assert_eq!(names("none"), [""; 0]);
        assert_eq!(names("").len(), 7, "a blank value counts as none");
        for wrong in ["aws", "none,tei", "TEI"] {
            let message = resolve(wrong, "", &[]).expect_err(wrong);
            assert!(message.contains("huggingface, comprehend"), "{message}");
        }
    }

    #[test]
    fn paths_are_plain() {
        let prefix = |path: &str| resolve("", path, &[]).map(|compat| compat.prefix);
        assert_eq!(prefix("/a/b/"), Ok("/a/b".to_owned()));
        assert_eq!(prefix("/"), Ok(String::new()));
        for wrong in ["a", "/{id}", "/a b", "/a?b", "//a", "/*", "/ä"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn vertex_names_its_routes() {
        let env = [
            ("AIP_HEALTH_ROUTE", "/v1/endpoints/1/deployedModels/2"),
            (
                "AIP_PREDICT_ROUTE",
                "/v1/endpoints/1/deployedModels/2:predict",
            ),
        ];
        let compat = resolve("vertex", "/other", &env).expect("plain paths");
        assert_eq!(compat.vertex_health.as_deref(), Some(env[0].1));
        assert_eq!(compat.vertex_predict.as_deref(), Some(env[1].1));
        let off = resolve("tei", "", &env).expect("plain paths");
        assert_eq!(off.vertex_predict, None);
        assert!(resolve("vertex", "", &[("AIP_PREDICT_ROUTE", "predict")]).is_err());
    }
}
