//! Codes of `gateway update`.

codes::pages! {
    NO_IMAGE = "E-UPD-001", 2, "this machine was not started from a Milepost image",
        "Updates of this kind are for boxes that were flashed with an image of ours: two slots for systems, a record of which one is good, a key whose updates the box takes. Here one of these is missing or damaged; the message names the file. A gateway that came as a package or a single file is updated the way it came.";
    STRANGER = "E-UPD-002", 2, "this is no update file, or its head is damaged",
        "An update file begins with `milepost-update 1` and a few lines of text: `head -n 6 FILE` shows them. Fetch it again, and compare it with the one that was made.";
    UNSIGNED = "E-UPD-003", 2, "the update is not signed by the key of this box",
        "The box takes only what was signed with the private half of /usr/share/milepost/update.pub. Nothing was written. If you made the update yourself, make it with the key that the image was made with: another key needs an image flashed anew, or an update signed with the old key that brings the new one.";
    BOARD = "E-UPD-004", 2, "the update is for another board",
        "Kernel and drivers of an image belong to one kind of board. Nothing was written. Fetch the update for this one.";
    DAMAGED = "E-UPD-005", 2, "the update is damaged, or cannot be read",
        "Its signature is good, and the bytes behind it are not those that were signed, or they ended early. What ran before still runs and starts again. From a file nothing was written; from a pipe the other slot is empty now, so there is nothing to go back to until an update succeeds. Fetch it again.";
    TOO_LARGE = "E-UPD-006", 2, "the update is larger than a slot",
        "Slots have the size that the image was made with. Nothing was written. Make a smaller system, or flash a new image.";
    DISK = "E-UPD-007", 4, "the disk does not take the update",
        "A slot or the record of the slots cannot be opened, written or read back as it was written. What ran before still runs and starts again. When the disk gives back something else than was written, replace it: the spool is on it too. Writing needs root.";
    NOT_NOW = "E-UPD-008", 1, "the slots must stay as they are now",
        "The running system is itself on trial, so the other slot is all there is to go back to: confirm it or restart the box. Or another update is being written, or the running slot is one that the record does not know: then restart the box.";
    SICK = "E-UPD-009", 1, "the running system is not healthy, so it is not kept",
        "A system on trial is kept once its gateway has opened its doors, every stage moves and Redis was reached. The message says what is missing. After the time of the trial, or with any restart, the box goes back to the system before. `gateway update confirm --yes` keeps it all the same.";
}
