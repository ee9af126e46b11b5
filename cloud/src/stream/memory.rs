//! How full Redis is: what it uses and what it may use, node by node.
//!
//! Why the processor tells it: a Redis that is full refuses what gateways send, and a site without an
//! exporter beside Redis must be able to see that coming. Invariant: what Redis does not tell is left
//! out, never told as nothing.

use std::fmt::Write as _;

use redis::cmd;

use super::link::{Link, Node, RedisFailure};

/// Memory of one node that may have keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// `host:port` of a node of a cluster; empty for a server by itself.
    pub node: String,
    /// What data, buffers and overhead take, in bytes (`used_memory`).
    pub used_bytes: u64,
    /// `maxmemory` in bytes; 0: no limit but the machine's.
    pub max_bytes: u64,
}

/// Asks every node that may have keys.
/// # Errors
/// [`RedisFailure`], also when this user may not say `INFO`.
pub async fn memory(link: &Link) -> Result<Vec<Memory>, RedisFailure> {
    let mut ask = cmd("INFO");
    ask.arg("memory");
    let mut told = Vec::new();
    for node in link.masters().await? {
        let info: String = link.ask_node(&node, "INFO memory", &ask).await?;
        let name = match &node {
            Node::Configured(_) => String::new(),
            Node::Named(address) => address.to_string(),
        };
        told.extend(read(name, &info));
    }
    Ok(told)
}

/// `None`: it does not say both.
fn read(node: String, info: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = lines.find(|(found, _)| *found == name)?;
        value.trim().parse().ok()
    };
    Some(Memory {
        node,
        used_bytes: bytes("used_memory")?,
        max_bytes: bytes("maxmemory")?,
    })
}

/// Prometheus text format 0.0.4; nothing without nodes.
#[must_use]
pub fn to_prometheus(nodes: &[Memory]) -> String {
    type Figure = fn(&Memory) -> u64;
    let families: [(_, _, Figure); 2] = [
        (
            "milepost_cloud_redis_memory_used_bytes",
            "Memory that Redis uses.",
            |memory| memory.used_bytes,
        ),
        (
            "milepost_cloud_redis_memory_max_bytes",
            "Memory that Redis may use; 0 for no limit.",
            |memory| memory.max_bytes,
        ),
    ];
    let mut text = String::new();
    for (name, help, figure) in families.iter().filter(|_| !nodes.is_empty()) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for memory in nodes {
            let _ = writeln!(
                text,
                "{name}{{node=\"{}\"}} {}",
                memory.node,
                figure(memory)
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_says_is_read_and_what_it_leaves_out_is_left_out() {
        let info = "# Memory\r\nused_memory:1048576\r\nused_memory_rss:9\r\nmaxmemory:0\r\n";
        let told = Memory {
            node: "a:1".to_owned(),
            used_bytes: 1_048_576,
            max_bytes: 0,
        };
        assert_eq!(read("a:1".to_owned(), info), Some(told.clone()));
        assert_eq!(read(String::new(), "used_memory:1\r\n"), None);
        assert_eq!(
            read(String::new(), "used_memory:x\r\nmaxmemory:1\r\n"),
            None
        );
        let text = to_prometheus(&[told]);
        for row in [
            "milepost_cloud_redis_memory_used_bytes{node=\"a:1\"} 1048576\n",
            "milepost_cloud_redis_memory_max_bytes{node=\"a:1\"} 0\n",
        ] {
            assert!(text.contains(row), "{text}");
        }
        assert_eq!(to_prometheus(&[]), "");
    }
}
