//! An exec: who it was, what it became, and what is known of the file at once.

use hedgerow_bpf::wire;
use hedgerow_event::{Event, Exec, FileKey, Origin, Provenance, Subject, gate};

use super::Namer;
use crate::{
    facts::{actor, process_key, root, writable},
    held::Awaited,
    identity::{
        ExecFacts, Resolver,
        digest::{Answer, Image, Script, Waits, Wanted},
        program::{self, Second},
    },
    wire_event::WireExec,
};

impl Namer {
    pub(super) fn exec(&mut self, exec: &WireExec, resolver: &mut Resolver) -> Option<Event> {
        let wire = &exec.record;
        if wire.actor.flags & wire::WIRE_ACTOR_PROOF != 0 {
            return None;
        }
        let key = process_key(&wire.actor);
        let script = wire.flags & wire::WIRE_EXEC_SCRIPT != 0;
        let cut = wire.flags & wire::WIRE_EXEC_PATH_CUT != 0;
        let words = program::words(&exec.arguments);
        let facts = ExecFacts {
            path: &exec.path,
            arguments: &words,
            script: script.then_some(exec.filename.as_str()),
            memory: wire.file.links == 0,
            service: if cut { 0 } else { wire.profile_id },
            writable: writable(&wire.file),
        };
        let arguments: Vec<&str> = exec.arguments.trim_end_matches('\0').split('\0').collect();
        let previous = self.known(key.tgid, key.start_boot_ns);
        let parent = self.known(wire.parent_tgid, wire.parent_start_boot_ns);
        let subject = resolver.subject(key, Some(facts));
        self.remember(key, wire.actor.slot, wire.profile_id, &subject, resolver);
        let answer = self.file(exec, &subject, resolver);
        let under_listener =
            wire.flags & wire::WIRE_EXEC_UNDER_LISTENER != 0 && !subject.workload.is_login();
        let is_login =
            wire.login_uid != u32::MAX && resolver.is_of_login(&subject.workload, &key.root);
        let actor = actor(&wire.actor, subject);
        let origin = Origin::Exec(Box::new(Exec {
            previous,
            file: FileKey {
                device: wire.file.device,
                inode: wire.file.inode,
                generation: wire.file.generation,
            },
            parent_tgid: wire.parent_tgid,
            parent,
            uid_before: wire.uid_before,
            uid: wire.uid,
            login_uid: if is_login { wire.login_uid } else { u32::MAX },
            path: exec.path.as_str().into(),
            // Named by now; nothing behind this point needs what they keep secret.
            arguments: gate::command(&arguments).into(),
            digest: answer.digest,
            replaced: answer.replaced,
            memory: wire.file.links == 0,
            writable: writable(&wire.file),
            privileged: wire.flags & wire::WIRE_EXEC_PRIVILEGED != 0,
            socket_io: wire.flags & wire::WIRE_EXEC_SOCKET != 0,
            under_listener,
            of_host: Some(
                wire.flags & wire::WIRE_EXEC_HOST != 0
                    && wire.file.links != 0
                    && !writable(&wire.file),
            ),
            provenance: answer.provenance.unwrap_or_default(),
            root: root(&key.root),
        }));
        self.event(&wire.header, actor, origin)
    }

    /// What is known at once of an exec's file, and of the script that it runs. Files without a
    /// link are none that could be replaced, and those behind a server are not read.
    fn file(&mut self, exec: &WireExec, subject: &Subject, resolver: &mut Resolver) -> Answer {
        let wire = &exec.record;
        let digests = resolver.digests();
        let (tgid, parent_tgid) = (wire.actor.tgid, wire.parent_tgid);
        let place = |path: &str| (subject.workload.clone(), path.into());
        let image = Image::new(wire, place(&exec.path));
        if wire.file.links == 0 || wire.flags & wire::WIRE_EXEC_REMOTE != 0 {
            let provenance = digests.of_layer(image.layer);
            let replaced = wire.file.links != 0 && digests.unread(&image);
            return Answer { provenance, replaced, ..Answer::default() };
        }
        let mut answer = digests.exec(&image);
        let mut awaited = Awaited { image: answer.provenance, ..Awaited::default() };
        if answer.waits != Waits::Nothing {
            awaited.wanted.push(Wanted::Image(image));
        }
        match program::second(&exec.path, &subject.program) {
            Second::None => {}
            Second::Unnamed => awaited.second = Some(Provenance::Unknown),
            Second::Path(path) => {
                awaited.second = Some(Provenance::Unknown);
                let script = Script { place: place(path), tgid, parent_tgid };
                awaited.wanted.extend(digests.script(script));
                awaited.digest_of_second = true;
                answer.digest = None;
            }
        }
        answer.provenance = Some(awaited.provenance());
        self.awaited = awaited;
        answer
    }
}
