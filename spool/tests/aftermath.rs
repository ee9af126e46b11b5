//! Openings after openings that could not read everything.
#![allow(clippy::unwrap_used)]

mod kit;

use kit::aftermath;

#[test]
fn a_last_segment_that_could_not_be_read_once_loses_nothing() {
    aftermath::a_last_segment_that_could_not_be_read_once().unwrap();
}

#[test]
fn a_forgotten_segment_that_came_back_is_no_loss() {
    aftermath::a_forgotten_segment_that_came_back().unwrap();
}

#[test]
fn a_compacted_source_says_twice_that_it_is_free() {
    aftermath::a_compacted_source_says_twice_that_it_is_free().unwrap();
}

#[test]
fn a_copy_that_could_not_be_read_once_is_not_all_there_is() {
    aftermath::a_copy_that_could_not_be_read_once().unwrap();
}

#[test]
fn a_last_segment_that_could_not_be_seen_once_loses_nothing() {
    aftermath::a_last_segment_that_could_not_be_seen_once().unwrap();
}

#[test]
fn a_copy_that_was_never_on_the_disk_is_not_believed() {
    aftermath::a_copy_that_was_never_on_the_disk().unwrap();
}
