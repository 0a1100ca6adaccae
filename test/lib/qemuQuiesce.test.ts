/**
 * Saves that have a guest agent hold the file systems still, plain and live, behind a scripted QEMU and a scripted agent which fails at
 * everything it is told, in every way. The guest's file systems are frozen for no longer than the machine is stopped, and
 * whatever becomes of the save, in the end they are not.
 */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { VmsnapError } from '../../lib/index.js';
import type { MachineOptions, SaveResult } from '../../lib/types.js';
import { failsWith } from './support/expect.js';
import { hasStoppedMemory, type LiveQemuStage, liveQemuStage } from './support/liveQemuStage.js';
import { allOrNothing, descriptionIn } from './support/qemuStage.js';
import { type AgentFault, type AgentScript, LATE_MS, ScriptedAgent, thawedInTheEnd } from './support/scriptedAgent.js';
import type { Script } from './support/scriptedQemu.js';

/** Of the agent: one that is silent is given up before it answers late. */
const ANSWER_SECONDS = LATE_MS / 1000 / 2;
const FAULTS: readonly AgentFault[] = ['refuse', 'close', 'hang', 'garbage', 'late'];

interface Stage extends LiveQemuStage {
  readonly agent: ScriptedAgent;
  quiesce(machine?: MachineOptions, signal?: AbortSignal): Promise<SaveResult>;
}

async function stage(t: ExecutionContext, live: boolean, agentScript: AgentScript, script?: Script): Promise<Stage> {
  const made = await liveQemuStage(t, script);
  const agent = await ScriptedAgent.start(made.folder.folder, made.qemu, agentScript);
  t.teardown(() => agent.close());
  const quiesce = (machine: MachineOptions = {}, signal?: AbortSignal) =>
    made.save({ live, quiesce: true, agent: agent.socket, answerSeconds: ANSWER_SECONDS, ...machine }, { signal });
  return {
    ...made,
    get stopped() {
      return made.stopped;
    },
    agent,
    quiesce,
  };
}

/** The machine runs, its file systems too, and an image is whole or not there. */
async function endsWell(t: ExecutionContext, made: Stage, work: Promise<SaveResult>): Promise<void> {
  await allOrNothing(t, made, work, hasStoppedMemory);
  await thawedInTheEnd(t, made.agent);
}

for (const live of [false, true]) {
  const kind = live ? 'live' : 'plain';

  test(`${kind}: frozen just before the stop, thawed as soon as the machine runs again`, async (t) => {
    const made = await stage(t, live, {});
    const { qemu, agent, image, quiesce } = made;
    const { machine } = await quiesce();
    t.is(machine!.frozenFileSystems, 2);
    t.is((await descriptionIn(image)).frozenFileSystems, 2);
    await hasStoppedMemory(t, made);
    const { log } = qemu;
    const frozen = log.indexOf('guest-fsfreeze-freeze');
    t.is(log[frozen + 1], 'stop', log.join(' '));
    // After `cont` is asked whether the machine runs; then comes the thaw, and then what holds nobody up.
    const after = log.slice(log.lastIndexOf('cont') + 1);
    t.deepEqual(after.slice(0, 4), ['query-migrate', 'query-status', 'query-migrate', 'guest-fsfreeze-thaw']);
    t.true(after.includes('migrate-set-parameters'));
    for (const command of ['guest-fsfreeze-freeze', 'guest-fsfreeze-thaw'])
      t.is(log.filter((said) => said === command).length, 1, command);
    // Of the long pass before the stop, the file systems have felt nothing.
    if (live) t.true(log.slice(0, frozen).includes('migrate'), log.join(' '));
    t.is(agent.frozen, 0);
  });

  for (const fault of FAULTS) {
    test(`${kind}: a freeze that fails by ${fault}: nothing is stopped, nothing stays frozen`, async (t) => {
      const made = await stage(t, live, { command: 'guest-fsfreeze-freeze', fault });
      const work = made.quiesce();
      const error = await failsWith(t, 'GUEST', work, /the guest agent/);
      if (fault === 'refuse') t.regex(error.message, /refused guest-fsfreeze-freeze: scripted: no guest-fsfreeze/);
      await endsWell(t, made, work);
      t.false(made.qemu.wasStopped);
    });

    test(`${kind}: a thaw that fails by ${fault} is tried again, and the image is there`, async (t) => {
      const made = await stage(t, live, { command: 'guest-fsfreeze-thaw', fault });
      const work = made.quiesce();
      await work;
      await endsWell(t, made, work);
      t.true(made.qemu.log.filter((said) => said === 'guest-fsfreeze-thaw').length >= 2);
    });
  }

  test(`${kind}: a thaw that goes on to fail is told with the command to type, and the guard goes on trying`, async (t) => {
    const script = { command: 'guest-fsfreeze-thaw', fault: 'refuse', times: Number.POSITIVE_INFINITY } as const;
    const made = await stage(t, live, script);
    const { quiesce, agent, qemu, image } = made;
    const error = await failsWith(
      t,
      'GUEST',
      quiesce({ reconnectSeconds: 1 }),
      /may still be frozen: .*no guest-fsfreeze-thaw$/,
    );
    t.true(error.hint!.includes(`"guest-fsfreeze-thaw"`) && error.hint!.includes(`UNIX-CONNECT:${agent.socket}`));
    t.false(existsSync(image));
    t.true(qemu.isRunning);
    t.is(agent.frozen, 2);
    agent.script = {};
    await thawedInTheEnd(t, agent);
  });

  test(`${kind}: a save that fails or is stopped in the pause`, async (t) => {
    const failed = await stage(t, live, {});
    const work = failed.quiesce({ whilePaused: 'exit 3' });
    await failsWith(t, 'FAILED', work, /ended with 3/);
    await endsWell(t, failed, work);

    const late = await stage(t, live, {});
    const endless = late.quiesce({ whilePaused: 'sleep 1000', maxPauseSeconds: 0.2 });
    await failsWith(t, 'TIMEOUT', endless, /paused for 0.2 s/);
    await endsWell(t, late, endless);

    const broken = await stage(t, live, {}, { command: 'query-named-block-nodes', fault: 'refuse' });
    await endsWell(t, broken, broken.quiesce());
  });

  test(`${kind}: stopped while the agent freezes`, async (t) => {
    const made = await stage(t, live, { command: 'guest-fsfreeze-freeze', fault: 'late' });
    const stopper = new AbortController();
    const work = made.quiesce({ answerSeconds: 60 }, stopper.signal);
    work.catch(() => {});
    while (made.agent.frozen === 0) await sleep(5);
    stopper.abort(new VmsnapError('SIGTERM', 'stopped'));
    await failsWith(t, 'SIGTERM', work);
    await endsWell(t, made, work);
    t.false(made.qemu.wasStopped);
  });
}

for (const live of [false, true]) {
  test(`${live ? 'live' : 'plain'}: what somebody else has frozen is left frozen, and nothing is stopped`, async (t) => {
    const made = await stage(t, live, {});
    made.agent.frozen = 1;
    const early = await failsWith(t, 'GUEST', made.quiesce(), /have been frozen by somebody else/);
    t.regex(early.hint!, /"guest-fsfreeze-thaw"/);
    t.false(made.qemu.log.includes('migrate'));
    t.is(made.agent.frozen, 1);

    // Between the question and the freeze: the agent refuses it.
    made.agent.frozen = 0;
    const { log } = made.qemu;
    const asked = () => log.filter((said) => said === 'guest-fsfreeze-status').length;
    const before = asked();
    made.agent.onCommand = (command) => {
      if (command === 'guest-fsfreeze-freeze') made.agent.frozen = 1;
    };
    const work = made.quiesce();
    await failsWith(t, 'GUEST', work, /refused guest-fsfreeze-freeze: .*in frozen state/);
    t.is(asked(), before + 2);
    await allOrNothing(t, made, work, hasStoppedMemory);
    t.false(made.qemu.wasStopped);
    t.false(log.includes('guest-fsfreeze-thaw'));
    t.is(made.agent.frozen, 1);
  });
}

test('a guest without anything to hold still is saved, and it is a warning', async (t) => {
  const made = await stage(t, false, {});
  made.agent.fileSystems = 0;
  const { machine, warnings } = await made.quiesce();
  t.is(machine!.frozenFileSystems, 0);
  t.deepEqual(
    warnings.map(({ code }) => code),
    ['nothing-quiesced'],
  );
  await hasStoppedMemory(t, made);
});

test("half a request that somebody has left in the port of the agent is in nobody's way", async (t) => {
  const made = await stage(t, false, {});
  made.agent.begun = '{"execute":"guest-fs';
  const work = made.quiesce();
  t.is((await work).machine!.frozenFileSystems, 2);
  await endsWell(t, made, work);
});

test('an agent that is not there or says nothing is found out before the machine is asked to do anything', async (t) => {
  const made = await stage(t, true, { command: 'guest-sync', fault: 'hang' });
  await failsWith(t, 'GUEST', made.quiesce(), /gave no answer in/);
  await failsWith(t, 'GUEST', made.quiesce({ agent: made.folder.path('none') }), /the guest agent on .*ENOENT/);
  t.false(made.qemu.log.includes('migrate'));
});

test('a connection to the agent that is lost in the long pass is made anew', async (t) => {
  let migrations = 0;
  const onCommand = (command: string): void => {
    if (command === 'migrate' && ++migrations === 1) made.agent.drop();
  };
  const made: Stage = await stage(t, true, {}, { onCommand });
  const work = made.quiesce();
  t.is((await work).machine!.frozenFileSystems, 2);
  await endsWell(t, made, work);
  t.is(made.qemu.log.filter((said) => said === 'guest-sync').length, 2);
});

test('memory that is plugged in meanwhile: each stop has its own freeze and thaw', async (t) => {
  const onCommand = (command: string): void => {
    if (command === 'stop') made.qemu.pluggedModules = 1;
  };
  const made: Stage = await stage(t, true, {}, { onCommand });
  const work = made.quiesce();
  t.is((await work).machine!.live!.restarts, 1);
  await endsWell(t, made, work);
  const told = made.qemu.log.filter((said) => /fsfreeze-(freeze|thaw)|^stop$/.test(said));
  const once = ['guest-fsfreeze-freeze', 'stop', 'guest-fsfreeze-thaw'];
  t.deepEqual(told, [...once, ...once]);
});
