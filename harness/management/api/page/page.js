"use strict";
// The page uses the same API as everybody: signed in by cookie and session key, one row a VM or network, jobs polled.
// Whatever a server says is put in as text, never as markup.
const PAUSE = 1000;
// Polls in a row that may go unanswered before the end of a job counts as not known.
const MISSES = 5;
const $ = (id) => document.getElementById(id);
const KINDS = [
  {list: "listSystemVms", object: "systemvm", title: "Console proxies and storage VMs", act: "patchSystemVm"},
  {list: "listRouters", object: "router", title: "Routers", act: "restartNetwork"},
  {list: "listInternalLoadBalancerVMs", object: "internalloadbalancervm", title: "Internal load balancers", act: "restartNetwork"},
  {list: "listNetworks", object: "network", title: "Networks", act: "restartNetwork", without: "listRouters"},
  {list: "listVPCs", object: "vpc", title: "VPCs", act: "restartVPC", without: "listRouters"},
];
const TYPES = {consoleproxy: "console proxy", secondarystoragevm: "storage VM", VIRTUAL_ROUTER: "router", INTERNAL_LB_VM: "load balancer"};

class Refused extends Error {}

async function call(command, parameters = {}) {
  const sent = new URLSearchParams({command, response: "json", ...parameters});
  if (sessionStorage.key_of_session) sent.set("sessionkey", sessionStorage.key_of_session);
  const answer = await fetch("client/api", {method: "POST", body: sent, credentials: "same-origin"});
  const [content] = Object.values(await answer.json());
  if (answer.ok) return content;
  if (answer.status === 401) {
    leave();
    say(`You are signed out: ${content.errortext}`);
  }
  throw new Refused(content.errortext);
}

function say(trouble) {
  $("trouble").textContent = trouble;
  $("trouble").hidden = !trouble;
}

function leave() {
  sessionStorage.clear();
  $("entry").hidden = false;
  $("lists").hidden = $("who").hidden = true;
  $("lists").replaceChildren();
}

async function every(kind) {
  const rows = [];
  for (let page = 1; ; page += 1) {
    const more = await call(kind.list, {listall: true, projectid: -1, page, pagesize: 500});
    rows.push(...(more[kind.object] || []));
    if (rows.length >= (more.count || 0)) return rows;
  }
}

function order(kind, row) {
  if (kind.act === "patchSystemVm") return ["patchSystemVm", {id: row.id}];
  if (row.vpcid) return ["restartVPC", {id: row.vpcid, livepatch: true}];
  return [kind.act, {id: row.guestnetworkid || row.id, livepatch: true}];
}

function fill(line, kind, row, may) {
  const short = (digest) => (digest ? `${digest.slice(0, 12)}…` : "–");
  const type = row.systemvmtype || row.role || row.type || "VPC";
  const cells = [row.name, TYPES[type] || type, row.templatename || row.version || "–", short(row.scriptsinstalled),
    short(row.scriptsavailable)].map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  });
  const verdict = document.createElement("td");
  const badge = document.createElement("span");
  badge.className = `badge ${row.livepatchavailable ? "due" : "idle"}`;
  badge.textContent = row.livepatchavailable ? `available (${row.livepatchverdict})` : "not available";
  verdict.append(badge, ` ${row.livepatchreason || ""}`);
  const action = document.createElement("td");
  const state = document.createElement("span");
  state.setAttribute("role", "status");
  const [command, parameters] = order(kind, row);
  if (row.livepatchavailable && may.has(command)) {
    const button = document.createElement("button");
    button.textContent = "Live patch";
    button.setAttribute("aria-label", `Live patch ${row.name}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      // What the last try ended with is not how this one goes.
      state.className = "";
      state.textContent = "asked for";
      action.replaceChildren(button, " ", state);
      const ended = await carryOut(command, parameters, state);
      await renew(line, kind, row.id, may, ended, state);
    });
    action.append(button, " ");
  }
  action.append(state);
  line.replaceChildren(...cells, verdict, action);
  return state;
}

async function carryOut(command, parameters, state) {
  let jobid;
  try {
    ({jobid} = await call(command, parameters));
  } catch (trouble) {
    return {good: trouble instanceof Refused ? false : undefined, text: trouble.message};
  }
  for (let missed = 0; ; await new Promise((go) => setTimeout(go, PAUSE))) {
    try {
      const job = await call("queryAsyncJobResult", {jobid});
      if (job.jobstatus === 1) return {good: true, text: job.jobresult.details || "done", job};
      if (job.jobstatus !== 0) return {good: false, text: job.jobresult.errortext || job.jobresult, job};
      state.textContent = job.jobprogress || "in progress";
      missed = 0;
    } catch (trouble) {
      missed += 1;
      if (missed === MISSES || trouble instanceof Refused) {
        return {text: `${trouble.message}; job ${jobid} may go on`};
      }
    }
  }
}

const WORDS = new Map([[true, "Succeeded"], [false, "Failed"]]);

async function renew(line, kind, id, may, ended, before) {
  let state = before;
  try {
    const found = await call(kind.list, {id, listall: true, projectid: -1});
    state = fill(line, kind, found[kind.object][0], may);
  } catch {
    // The row stays as it was: nobody has said anything newer.
  }
  state.className = ended.good ? "good" : "bad";
  state.textContent = `${WORDS.get(ended.good) || "Not known"}: ${ended.text}`;
  if (ended.job) state.after(report(ended.job));
}

function report(job) {
  const part = $("report").content.cloneNode(true);
  part.querySelector("p").textContent = `Job ${job.jobid}, ${job.created} to ${job.completed}`;
  for (const {began, phase} of job.jobphases || []) {
    const item = document.createElement("li");
    item.textContent = `${began.slice(11, 19)} ${phase}`;
    part.querySelector("ol").append(item);
  }
  return part;
}

async function show() {
  const may = new Set((await call("listApis")).api.map((api) => api.name));
  $("lists").replaceChildren();
  for (const kind of KINDS.filter((one) => may.has(one.list) && !may.has(one.without))) {
    const part = $("list").content.cloneNode(true);
    part.querySelector("h2").textContent = kind.title;
    const rows = await every(kind);
    for (const row of rows) {
      const line = document.createElement("tr");
      fill(line, kind, row, may);
      part.querySelector("tbody").append(line);
    }
    if (rows.length) $("lists").append(part);
  }
  if (!$("lists").children.length) $("lists").textContent = "There is nothing here that could be patched.";
  $("name").textContent = sessionStorage.name_of_account;
  $("entry").hidden = true;
  $("lists").hidden = $("who").hidden = false;
}

const guarded = (what) => async (event) => {
  event?.preventDefault();
  say("");
  try {
    await what();
  } catch (trouble) {
    say(trouble.message);
  }
};

$("entry").addEventListener("submit", guarded(async () => {
  const session = await call("login", {username: $("username").value, password: $("password").value});
  sessionStorage.key_of_session = session.sessionkey;
  sessionStorage.name_of_account = session.account;
  $("password").value = "";
  await show();
}));
$("leave").addEventListener("click", guarded(async () => {
  await call("logout");
  leave();
}));
if (sessionStorage.key_of_session) guarded(show)();
