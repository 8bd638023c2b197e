//! The memory that the kernel has allocated, according to `/proc` (Linux).

use std::collections::BTreeMap;
use std::fs::read_to_string;

use crate::Failure;
use crate::measure::kilobytes;

const PAGE: i64 = 4096;

/// The kernel's memory at a moment.
pub(crate) struct Kernel {
    slabs: BTreeMap<String, Slab>,
    /// All slabs, in bytes.
    slab_bytes: i64,
    /// Pages of the buffers of TCP sockets.
    tcp_pages: i64,
    sockets: i64,
}

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Slab {
    objects: i64,
    /// Includes their share of the unused bytes of a full slab.
    bytes: i64,
}

/// The growth between two moments.
pub(crate) struct Growth {
    /// The growth of each kind with at least one object for two sockets.
    slabs: Vec<(String, Slab)>,
    slab_bytes: i64,
    tcp_pages: i64,
    sockets: i64,
}

impl Kernel {
    /// Fails without root, because only root may read `/proc/slabinfo`.
    pub(crate) fn now() -> Result<Kernel, Failure> {
        let read = |path: &str| read_to_string(path).map_err(|error| format!("can't read {path}: {error}"));
        let (memory, sockets) = (read("/proc/meminfo")?, read("/proc/net/sockstat")?);
        Ok(Kernel {
            slabs: slabs(&read("/proc/slabinfo")?),
            slab_bytes: kilobytes(&memory, "Slab").unwrap_or_default() * 1024,
            tcp_pages: of_tcp(&sockets, "mem").unwrap_or_default(),
            sockets: of_tcp(&sockets, "inuse").unwrap_or_default(),
        })
    }

    pub(crate) fn growth(&self, since: &Kernel) -> Growth {
        let sockets = self.sockets - since.sockets;
        let grown = self.slabs.iter().filter_map(|(name, slab)| {
            let before = since.slabs.get(name).copied().unwrap_or_default();
            let grown = Slab { objects: slab.objects - before.objects, bytes: slab.bytes - before.bytes };
            (2 * grown.objects >= sockets.max(1)).then(|| (name.clone(), grown))
        });
        Growth {
            slabs: grown.collect(),
            slab_bytes: self.slab_bytes - since.slab_bytes,
            tcp_pages: self.tcp_pages - since.tcp_pages,
            sockets,
        }
    }
}

impl Growth {
    pub(crate) fn print(&self) {
        let each = |n: i64| n as f64 / self.sockets.max(1) as f64;
        println!("the kernel's part, of {} sockets (both ends of the connections):", self.sockets);
        for (name, Slab { objects, bytes }) in &self.slabs {
            println!("  {name}: {:.2} objects, {:.0} bytes per socket", each(*objects), each(*bytes));
        }
        let all = self.slabs.iter().map(|(_, slab)| slab.bytes).sum();
        println!("  these together: {:.0} bytes per socket", each(all));
        println!("  all slabs, with what other programs use: {:.0} bytes per socket", each(self.slab_bytes));
        println!("  buffers of TCP: {:.0} bytes per socket", each(self.tcp_pages * PAGE));
    }
}

/// The kinds of objects in `/proc/slabinfo`.
fn slabs(text: &str) -> BTreeMap<String, Slab> {
    let slab = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        let mut numbers = fields.map_while(|field| field.parse::<i64>().ok());
        let objects = numbers.next()?;
        let (of_slab, pages) = (numbers.nth(2)?, numbers.next()?);
        let bytes = objects * pages * PAGE / of_slab.max(1);
        Some((name.to_owned(), Slab { objects, bytes }))
    };
    text.lines().filter_map(slab).collect()
}

/// A value of the line about TCP in `/proc/net/sockstat`.
fn of_tcp(text: &str, key: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != key);
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLABS: &str = "slabinfo - version: 2.1
# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit> <batchcount> \
<sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>
TCP                  100    104   2368   13    8 : tunables    0    0    0 : slabdata      8      9      0
filp                1024   1040    192   21    1 : tunables    0    0    0 : slabdata     48     50      0
";

    #[test]
    fn objects_take_their_share_of_a_slab() {
        let slabs = slabs(SLABS);
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs["TCP"], Slab { objects: 100, bytes: 100 * 8 * PAGE / 13 });
        assert_eq!(slabs["filp"], Slab { objects: 1024, bytes: 1024 * PAGE / 21 });
    }

    #[test]
    fn only_what_grows_with_the_sockets_counts() {
        let kernel = |sockets, tcp, filp| Kernel {
            slabs: [("TCP", tcp), ("filp", filp)]
                .map(|(name, objects)| (name.to_owned(), Slab { objects, bytes: objects * 10 }))
                .into(),
            slab_bytes: 0,
            tcp_pages: 0,
            sockets,
        };
        let growth = kernel(101, 107, 60).growth(&kernel(1, 7, 20));
        assert_eq!(growth.slabs, [("TCP".to_owned(), Slab { objects: 100, bytes: 1000 })]);
    }

    #[test]
    fn tcp_has_a_line_of_its_own() {
        let text = "sockets: used 17\nTCP: inuse 3 orphan 0 tw 0 alloc 4 mem 5\nUDP: inuse 7 mem 8\n";
        assert_eq!((of_tcp(text, "inuse"), of_tcp(text, "mem"), of_tcp(text, "x")), (Some(3), Some(5), None));
    }
}
