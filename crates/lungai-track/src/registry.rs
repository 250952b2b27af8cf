//! The server's model registry: a finished run's weights as a version of a named model.

use crate::Failure;
use crate::mlflow::{CallError, Mlflow, Pair, RemoteRun, pairs};
use crate::replay;
use lungai_runs::Run;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A version of a registered model.
#[derive(Debug, Serialize)]
pub struct Registered {
    /// The model.
    pub name: String,
    /// Counted by the server.
    pub version: String,
    /// The alias that points to it now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Whether it was made just now.
    pub created: bool,
}

/// Tag of a version with the SHA-256 of its weights.
const WEIGHTS_TAG: &str = "lungai.weights_sha256";

/// Names that need no escaping in a search, and that MLflow takes.
pub fn check_names(name: &str, alias: Option<&str>) -> Result<(), Failure> {
    for text in [Some(name), alias].into_iter().flatten() {
        let fine = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if text.is_empty() || text.len() > 200 || !text.chars().all(fine) {
            let message = format!("`{text}`: names of models and aliases hold letters, digits, `-`, `_` and `.` only");
            return Err(Failure::new("register-name", message));
        }
    }
    Ok(())
}

/// Makes the run a version of `name`, once; the version's source are the run's artifacts, so that weights, experiment and
/// record come together.
pub fn register(
    mlflow: &Mlflow,
    run: &Run,
    remote: &RemoteRun,
    name: &str,
    alias: Option<&str>,
) -> Result<Registered, Failure> {
    #[derive(Deserialize)]
    struct Found {
        registered_model: Model,
    }
    #[derive(Deserialize)]
    struct Model {
        #[serde(default)]
        aliases: Vec<Alias>,
    }
    #[derive(Deserialize)]
    struct Alias {
        alias: String,
        version: String,
    }
    let aliases = match mlflow.get::<Found>("registered-models/get", &[("name", name)]) {
        Ok(found) => found.registered_model.aliases,
        Err(CallError::Refused { code, .. }) if code == "RESOURCE_DOES_NOT_EXIST" => {
            let description =
                format!("Weights of the {} network of LungAI. Not cleared for clinical use.", run.network());
            let body = json!({ "name": name, "description": description });
            match mlflow.post::<Value>("registered-models/create", &body) {
                Err(CallError::Refused { code, .. }) if code == "RESOURCE_ALREADY_EXISTS" => (),
                other => _ = other?,
            }
            Vec::new()
        }
        Err(error) => return Err(error.into()),
    };
    let (version, created) = version(mlflow, run, remote, name)?;
    if let Some(alias) = alias
        && !aliases.iter().any(|known| known.alias == alias && known.version == version)
    {
        let body = json!({ "name": name, "alias": alias, "version": version });
        mlflow.post::<Value>("registered-models/alias", &body)?;
    }
    Ok(Registered { name: name.to_owned(), version, alias: alias.map(str::to_owned), created })
}

/// The run's version, and whether it was made just now.
fn version(mlflow: &Mlflow, run: &Run, remote: &RemoteRun, name: &str) -> Result<(String, bool), Failure> {
    #[derive(Deserialize)]
    struct Page {
        #[serde(default)]
        model_versions: Vec<Version>,
    }
    #[derive(Deserialize)]
    struct Made {
        model_version: Version,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
        #[serde(default)]
        tags: Vec<Pair>,
    }
    let sha256 = crate::sync::weights_sha256(run)?;
    let filter = format!("name='{name}' and run_id='{}'", remote.info.run_id);
    let page: Page = mlflow.get("model-versions/search", &[("filter", &filter)])?;
    let same = |version: &&Version| version.tags.iter().any(|tag| tag.key == WEIGHTS_TAG && tag.value == sha256);
    if let Some(version) = page.model_versions.iter().find(same) {
        return Ok((version.version.clone(), false));
    }
    let mut tags = vec![(WEIGHTS_TAG.to_owned(), sha256), ("synthetic".to_owned(), run.record.synthetic.to_string())];
    tags.push(("lungai.data.manifest_sha256".to_owned(), run.record.data.manifest_sha256.clone()));
    tags.extend(run.headline().map(|(figure, value)| (format!("lungai.{figure}"), format!("{value:.4}"))));
    let body = json!({
        "name": name, "source": remote.info.artifact_uri, "run_id": remote.info.run_id, "tags": pairs(&tags),
        "description": replay::description(run),
    });
    Ok((mlflow.post::<Made>("model-versions/create", &body)?.model_version.version, true))
}
