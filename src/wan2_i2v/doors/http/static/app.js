/* Puts the page together: the stores, the stream of events, and what happens when the server comes and goes. */

import Alpine from "./vendor/alpine-csp.js";
import { compare } from "./compare.js";
import { compose } from "./compose.js";
import { details, verdict } from "./details.js";
import { jobs } from "./jobs.js";
import { Live } from "./live.js";
import { planView } from "./planview.js";
import { session } from "./session.js";

const RETRY_MS = 2000;
const TICK_MS = 1000;
/** A stream that is back within this time was never away for people. */
const LOST_MS = 1000;

const store = (name) => () => Alpine.store(name);

Alpine.store("session", session());
Alpine.store("jobs", jobs(store("session")));
Alpine.store("compose", compose(store("session"), store("jobs")));
Alpine.store("details", details(store("jobs"), Alpine.nextTick));
Alpine.store("compare", compare(store("session"), store("jobs"), Alpine.nextTick));
Alpine.data("planView", () => planView(store("session"), store("compose")));
Alpine.data("verdictOf", (job) => ({
  get verdict() {
    return verdict(job);
  },
}));

let losing = 0;

const live = new Live({
  onEvent: (kind, data) => Alpine.store("jobs").take(kind, data),
  onOpen: () => {
    clearTimeout(losing);
    const away = !Alpine.store("session").online;
    Alpine.store("session").online = true;
    if (away) Alpine.store("session").tell("Connected again.");
    catchUp();
  },
  onLost: () => {
    clearTimeout(losing);
    losing = setTimeout(() => (Alpine.store("session").online = false), LOST_MS);
  },
});

/** After every (re)connection: send what waits, then see what happened meanwhile. */
async function catchUp() {
  const [all, form] = [Alpine.store("jobs"), Alpine.store("compose")];
  try {
    await all.flush();
  } catch (error) {
    form.blame(error);
  }
  try {
    await all.load();
  } catch (error) {
    if (!error.lost) Alpine.store("session").tell(error.message);
  }
  form.replan();
}

async function begin() {
  const here = Alpine.store("session");
  if (await here.load()) {
    Alpine.store("compose").begin();
    live.connect();
  } else if (!here.wanted) {
    setTimeout(begin, RETRY_MS);
  }
}

function tick() {
  const all = Alpine.store("jobs");
  const now = Date.now() / 1000;
  // Ages are told by the minute; only the time left of a running job needs every second.
  if (all.running.length || now - all.now > 20) all.now = now;
}

document.addEventListener("paste", (event) => Alpine.store("compose").pasted(event));
Alpine.start();
setInterval(tick, TICK_MS);
begin();
