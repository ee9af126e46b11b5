#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
use std::hint::black_box;
fn cpu() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
fn time(f: &dyn Fn(&[u8]) -> u16, b: &[u8]) -> f64 {
    let n = 2_000_000 / (b.len() as u64 + 10);
    let mut v: Vec<f64> = (0..31)
        .map(|_| {
            let t = cpu();
            for _ in 0..n {
                black_box(f(black_box(b)));
            }
            (cpu() - t) as f64 / n as f64
        })
        .collect();
    v.sort_by(f64::total_cmp);
    v[3]
}
fn main() {
    use codec::crc::*;
    let buf: Vec<u8> = (0..4096u32).map(|i| (i * i * 7 + 13) as u8).collect();
    for len in [
        3usize, 8, 15, 31, 64, 94, 128, 200, 380, 384, 400, 800, 1203, 2048,
    ] {
        for off in [8usize, 3] {
            let b = &buf[off..off + len];
            println!(
                "{len:5} @{off} table {:6.1} crc16 {:6.1} peer {:6.1}",
                time(&|b| update(0, b), b),
                time(&crc16, b),
                time(&nom_teltonika::crc16, b)
            );
        }
    }
}
