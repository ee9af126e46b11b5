//! `cloud acl print`: the rights of a gateway and of the cloud, to be put where users are kept.

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use cloud::config::Config;
use cloud::site::{act, issue};
use cloud::store::roles;
use contract::GatewayId;
use contract::access::{self, AccessError};
use serde_json::json;
use thiserror::Error;

#[derive(Subcommand)]
pub(crate) enum AclVerb {
    /// Print users of Redis with no more rights than they need, and roles of PostgreSQL.
    ///
    /// Nothing is changed and nobody is asked. No password is printed: without --password-file a user
    /// cannot log in until it gets one, with it its SHA-256 stands in the line. The cloud's streams
    /// come from its settings.
    ///
    /// Examples:
    ///   cloud acl print                                          the cloud's user and roles, to read
    ///   cloud acl print --gateway depot-1 --format redis-cli     lines for redis-cli
    ///   cloud acl print --admin --cloud --gateway depot-1 --format acl-file > users.acl
    ///   cloud acl print --format sql | psql
    #[command(verbatim_doc_comment)]
    Print {
        /// The user of this gateway; may be given several times.
        #[arg(long, value_name = "NAME")]
        gateway: Vec<GatewayId>,
        /// The user of the cloud. Printed when no other is asked for.
        #[arg(long)]
        cloud: bool,
        /// A user who may do everything, for people.
        #[arg(long)]
        admin: bool,
        /// What it is for.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// A file with the password of the one user that is asked for.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        /// It is a Redis Cluster: one right more.
        #[arg(long)]
        cluster: bool,
    },
}

/// What the lines are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// To read.
    Text,
    /// To pipe into redis-cli: changes users where they are, keeps their passwords.
    RedisCli,
    /// The whole of a users.acl, which knows no comments.
    AclFile,
    /// PostgreSQL's roles.
    Sql,
}

/// Why nothing was printed.
#[derive(Debug, Error)]
pub(crate) enum AclFailure {
    #[error("--password-file is for one user, and {asked} are asked for")]
    Several { asked: usize },
    #[error("cannot read {}", path.display())]
    Password {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} holds no password", path.display())]
    Empty { path: PathBuf },
    #[error("a gateway cannot be called {name}: a user of that name is there for something else")]
    Reserved { name: String },
    #[error(transparent)]
    Stream(#[from] cloud::site::SiteError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error("cannot write the result")]
    Output(#[from] std::io::Error),
}

impl AclFailure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Output(_) => 1,
            _ => 2,
        }
    }
}

/// Prints. Returns the exit code.
pub(crate) fn act(config: &Config, verb: &AclVerb, json: bool) -> Result<u8, AclFailure> {
    let AclVerb::Print {
        gateway,
        cloud,
        admin,
        format,
        password_file,
        cluster,
    } = verb;
    let streams = act::streams(config)?;
    let mut users: Vec<(String, Vec<String>)> = Vec::new();
    if *admin {
        let words = access::ADMIN_WORDS.map(str::to_owned).to_vec();
        users.push((access::ADMIN.to_owned(), words));
    }
    for id in gateway {
        if access::RESERVED.contains(&id.as_str()) {
            let name = id.to_string();
            return Err(AclFailure::Reserved { name });
        }
        users.push((id.to_string(), access::gateway(id, &streams, *cluster)));
    }
    let is_cloud = *cloud || users.is_empty();
    if is_cloud {
        let sensors = config.sensors.iter().map(|sensors| &sensors.pattern);
        let streams = config
            .stream
            .pattern
            .iter()
            .chain(sensors)
            .try_fold(streams, |streams, pattern| streams.matching(pattern))?;
        let dead_letter = config.stream.dead_letter.as_deref();
        let words = access::cloud(&streams, dead_letter, *cluster)?;
        users.push((access::PROCESSOR.to_owned(), words));
    }
    let passwords = passwords(password_file.as_ref(), users.len())?;
    let mut out = std::io::stdout().lock();
    if json {
        for (user, words) in users {
            let line = access::file_line(&user, &passwords, &words);
            let setuser = access::setuser(&user, &passwords, &words);
            let line = json!({"user": user, "rules": words, "acl_file": line, "setuser": setuser});
            writeln!(out, "{line}")?;
        }
        if is_cloud {
            for statement in roles::statements() {
                writeln!(out, "{}", json!({"sql": statement}))?;
            }
        }
        return Ok(0);
    }
    let file_lines = || {
        let lines = users.iter();
        lines.map(|(user, words)| access::file_line(user, &passwords, words))
    };
    match format {
        Format::Text => {
            writeln!(out, "Redis, users.acl:\n")?;
            for line in file_lines() {
                writeln!(out, "{line}")?;
            }
            if is_cloud {
                writeln!(out, "\nPostgreSQL:\n\n{}", roles::script())?;
            }
        }
        Format::RedisCli => {
            for (user, words) in &users {
                let words = access::setuser(user, &passwords, words);
                writeln!(out, "ACL SETUSER {}", words.join(" "))?;
            }
        }
        Format::AclFile => {
            writeln!(out, "user default off")?;
            for line in file_lines() {
                writeln!(out, "{line}")?;
            }
        }
        Format::Sql => write!(out, "{}", roles::script())?,
    }
    out.flush()?;
    if passwords.is_empty() && *format != Format::Sql {
        let mut err = std::io::stderr().lock();
        writeln!(
            err,
            "no password is set: who is new cannot log in yet; see --password-file, or `cloud site add` for gateways"
        )?;
    }
    Ok(0)
}

/// The SHA-256 of the password in the file, as Redis takes it.
fn passwords(file: Option<&PathBuf>, users: usize) -> Result<Vec<String>, AclFailure> {
    let Some(path) = file else {
        return Ok(Vec::new());
    };
    if users != 1 {
        return Err(AclFailure::Several { asked: users });
    }
    let text = std::fs::read_to_string(path).map_err(|source| AclFailure::Password {
        path: path.clone(),
        source,
    })?;
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(AclFailure::Empty { path: path.clone() }),
        password => Ok(vec![format!("#{}", issue::hash(password))]),
    }
}
