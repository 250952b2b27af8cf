//! A study at hand: protocol, ledger and data set, compared before anything is opened; and the model that is to be judged.

use crate::analysis::{self, Outcome, Subject, hash};
use crate::arguments::{Model, Purpose, Set};
use crate::failure::{Failure, file_name, io};
use crate::lock::{Data, Lock, Standing, canonical};
use crate::predictions::{self, Identity, Predictions};
use crate::protocol::Protocol;
use crate::record::Prediction;
use crate::reference::Reference;
use crate::report::Facts;
use lungai_datasets::{Manifest, read_yaml, sha256};
use lungai_models::frozen;
use lungai_pipeline::Pipeline;
use std::path::{Path, PathBuf};

/// Version of a system of which only a table of marks is known.
pub const NO_VERSION: &str = "not stated";

/// A protocol with its data set.
pub struct Study {
    /// The rules.
    pub protocol: Protocol,
    path: PathBuf,
    /// The file as it is.
    text: String,
    /// The test set.
    pub manifest: Manifest,
    manifest_path: PathBuf,
    /// One value for the whole test set, and the tables beside it.
    pub data: Data,
    /// The ledger, if there is one.
    pub lock: Lock,
}

impl Study {
    /// Everything is compared before anything is opened.
    ///
    /// # Errors
    /// `not-locked` where a ledger was named and is not there: whoever names one does not mean an exploratory run.
    pub fn load(set: &Set) -> Result<Self, Failure> {
        let study = Self::to_lock(set)?;
        match &set.ledger {
            Some(ledger) if !study.lock.exists() => {
                Err(Failure::new("not-locked", format!("{}: there is no such ledger", ledger.display())))
            }
            _ => Ok(study),
        }
    }

    /// As [`Self::load`], of a protocol that need not be locked yet.
    pub fn to_lock(set: &Set) -> Result<Self, Failure> {
        let path = set.protocol.clone();
        let protocol: Protocol = read_yaml(&path)?;
        protocol.check().map_err(|rule| Failure::new("protocol", format!("{}: {rule}", file_name(&path))))?;
        let lock = Lock::read(&path, set.ledger.as_deref(), set.who.as_deref(), &protocol)?;
        let beside = path.parent().unwrap_or(Path::new("")).join(&protocol.manifest);
        let manifest_path = set.manifest.clone().unwrap_or(beside);
        let manifest_path = if manifest_path.is_dir() { manifest_path.join("manifest.yaml") } else { manifest_path };
        let manifest = Manifest::load(&manifest_path)?;
        if manifest.name != protocol.data_set {
            let message =
                format!("the protocol is for `{}`, the manifest is of `{}`", protocol.data_set, manifest.name);
            return Err(Failure::new("other-data-set", message));
        }
        let text = std::fs::read_to_string(&path).map_err(io(&path))?;
        let data = Data::of(&protocol, &manifest, folder_of(&manifest_path))?;
        Ok(Self { protocol, path, text, manifest, manifest_path, data, lock })
    }

    /// The truth of its cases; no image is opened.
    pub fn reference(&self) -> Result<Reference<'_>, Failure> {
        Reference::load(&self.protocol, &self.manifest, folder_of(&self.manifest_path))
    }

    /// Tells ledger and terminal that the test set is opened for a system (name, and the hash that pins it).
    pub fn opened(&self, system: (&str, &str), what: &str, purpose: &Purpose) -> Result<Standing, Failure> {
        let purpose = purpose.purpose.as_deref().unwrap_or("not stated");
        let standing = self.lock.opened(&self.protocol, &self.data, system, what, purpose)?;
        eprintln!("{}", standing.words());
        Ok(standing)
    }

    /// Everything that the report says of a run, whatever made the predictions.
    pub fn facts(&self, standing: &Standing) -> Result<Facts, Failure> {
        let (protocol, manifest) = (&self.protocol, &self.manifest);
        Ok(Facts {
            protocol: format!("{} {}", protocol.name, protocol.version),
            purpose: protocol.purpose.clone(),
            protocol_sha256: hash(&self.path)?,
            canonical_sha256: canonical(protocol),
            standing: standing.clone(),
            model: String::new(),
            model_name: String::new(),
            model_version: String::new(),
            model_sha256: String::new(),
            model_synthetic: false,
            data_set: format!("{} {}", manifest.name, manifest.version),
            manifest_sha256: hash(&self.manifest_path)?,
            data_fingerprint: self.data.fingerprint.clone(),
            tables: self.data.tables.clone(),
            predictions_sha256: String::new(),
            program_sha256: program_sha256()?,
            synthetic: manifest.synthetic,
            device: String::new(),
            operating_point: protocol.operating_point.clone(),
            percent: 100.0 * protocol.confidence_level,
        })
    }

    /// Analyses our own predictions.
    ///
    /// # Errors
    /// `other-protocol`, `other-data-set` or `other-tables` where they are of something else; `predictions-not-in-ledger`.
    pub fn analyse(&self, read: Predictions, standing: &Standing, out: &Path) -> Result<Outcome, Failure> {
        let identity = &read.identity;
        let same = [
            ("protocol", &identity.protocol_sha256, canonical(&self.protocol)),
            ("data set", &identity.data_fingerprint, self.data.fingerprint.clone()),
        ];
        if let Some((what, theirs, ours)) = same.into_iter().find(|(_, theirs, ours)| *theirs != ours) {
            let rule = format!("other-{}", what.replace(' ', "-"));
            return Err(Failure::new(
                &rule,
                format!("the predictions are for the {what} {theirs}, this one is {ours}"),
            ));
        }
        if identity.tables != self.data.tables {
            let message = "covariates or readings are not those that the predictions were made with";
            return Err(Failure::new("other-tables", message));
        }
        self.lock.vouch(&read.parts, &identity.model_sha256)?;
        let facts = Facts {
            model: format!("{} {}", identity.model, identity.model_version),
            model_name: identity.model.clone(),
            model_version: identity.model_version.clone(),
            model_sha256: identity.model_sha256.clone(),
            model_synthetic: identity.model_synthetic,
            predictions_sha256: read.sha256.clone(),
            device: identity.device.clone(),
            ..self.facts(standing)?
        };
        self.write(read.cases, identity.operating_threshold, facts, standing, out)
    }

    /// Joins truth and predictions, writes everything, and tells the ledger what came of it.
    pub fn write(
        &self,
        cases: Vec<Prediction>,
        threshold: f64,
        facts: Facts,
        standing: &Standing,
        out: &Path,
    ) -> Result<Outcome, Failure> {
        let collected = self.reference()?.join(cases)?;
        let subject = Subject {
            protocol: &self.protocol,
            manifest: &self.manifest,
            collected: &collected,
            threshold,
            facts,
            protocol_text: &self.text,
        };
        let outcome = analysis::write(&subject, out)?;
        self.lock.concluded(standing, "results", &hash(&out.join(analysis::RESULTS))?)?;
        Ok(outcome)
    }
}

/// A model that is ready to predict, and what its predictions will be of.
pub struct Runner {
    /// The model.
    pub pipeline: Pipeline,
    /// What its predictions are of.
    pub identity: Identity,
}

impl Runner {
    /// Opens and verifies the model.
    pub fn load(study: &Study, model: &Model, reference: &Reference<'_>) -> Result<Self, Failure> {
        let (device, device_name) = model.device.open()?;
        eprintln!("loading the model on {device_name}");
        let pipeline = Pipeline::new(frozen::open(&model.models, model.trusted_key.as_deref(), &device)?);
        let (protocol, manifest) = (&study.protocol, pipeline.manifest());
        let (cases, cases_sha256) = predictions::names(reference.cases.iter().map(|truth| truth.case.id.as_str()));
        let identity = Identity {
            protocol: format!("{} {}", protocol.name, protocol.version),
            protocol_sha256: canonical(protocol),
            data_fingerprint: study.data.fingerprint.clone(),
            tables: study.data.tables.clone(),
            cases,
            cases_sha256,
            model: manifest.name.clone(),
            model_version: manifest.version.clone(),
            model_sha256: pipeline.model_sha256().to_owned(),
            model_synthetic: manifest.synthetic,
            operating_threshold: operating_threshold(protocol, &pipeline)?,
            device: device_name,
            program_sha256: program_sha256()?,
        };
        Ok(Self { pipeline, identity })
    }

    /// Name and hash, for the ledger.
    pub fn system(&self) -> (String, &str) {
        (format!("{} {}", self.identity.model, self.identity.model_version), &self.identity.model_sha256)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn operating_threshold(protocol: &Protocol, pipeline: &Pipeline) -> Result<f64, Failure> {
    let point = &protocol.operating_point;
    let points = &pipeline.manifest().operating_points;
    let score = points.get(point).copied().or_else(|| point.parse().ok()).filter(|s| (0.0..=1.0).contains(s));
    let score = score.ok_or_else(|| {
        let known = points.keys().cloned().collect::<Vec<_>>().join(", ");
        Failure::new("operating-point", format!("`{point}` is neither a score nor one of: {known}"))
    })?;
    if score < protocol.froc.lowest_score {
        let lowest = protocol.froc.lowest_score;
        let message = format!("the operating point's score {score} is below froc.lowest_score {lowest}");
        return Err(Failure::new("operating-point", message));
    }
    Ok(score)
}

/// SHA-256 of this very program: which code made a prediction, or a figure.
fn program_sha256() -> Result<String, Failure> {
    let path = std::env::current_exe().map_err(io(Path::new("this program")))?;
    Ok(sha256(&std::fs::read(&path).map_err(io(&path))?))
}
