// SPDX-License-Identifier: Apache-2.0
// ECS events against Elastic's list of fields: see scripts/ocsf-test. What stands under `hedgerow` is
// our own, as the schema allows.
"use strict";
const fs = require("fs");
const net = require("net");
const path = require("path");
const { EcsFlat, EcsVersion } = require("@elastic/ecs");

const text = (value) => typeof value === "string";
const whole = (value) => Number.isInteger(value);
const TYPES = {
	keyword: text,
	constant_keyword: text,
	wildcard: text,
	match_only_text: text,
	long: whole,
	float: (value) => typeof value === "number",
	ip: (value) => text(value) && net.isIP(value) !== 0,
	date: (value) => text(value) && !Number.isNaN(Date.parse(value)),
};

function leaves(value, name = "") {
	if (value === null || typeof value !== "object" || Array.isArray(value)) return [[name, value]];
	return Object.entries(value).flatMap(([key, inner]) => leaves(inner, name ? `${name}.${key}` : key));
}

function wrongOfField(name, value) {
	const field = EcsFlat[name];
	if (!field) return [`${name} is no field of ECS ${EcsVersion}`];
	const isArray = field.normalize.includes("array");
	if (Array.isArray(value) !== isArray) return [`${name} is ${isArray ? "an array" : "no array"} in ECS`];
	const fits = TYPES[field.type];
	if (!fits) return [`${name}: type ${field.type} isn't checked here`];
	const wrong = [value].flat().filter((one) => !fits(one)).map((one) => `${name}: ${JSON.stringify(one)} is no ${field.type}`);
	const allowed = (field.allowed_values || []).map((one) => one.name);
	return wrong.concat([value].flat().filter((one) => allowed.length && !allowed.includes(one)).map((one) => `${name}: ${one} isn't allowed`));
}

// The types that go with a category; one of an event's categories has to know each of its types.
function wrongTypes(event) {
	const rows = EcsFlat["event.category"].allowed_values.filter((one) => event.event.category.includes(one.name));
	const known = rows.flatMap((one) => one.expected_event_types || []);
	return event.event.type.filter((type) => !known.includes(type)).map((type) => `event.type ${type} goes with none of ${event.event.category}`);
}

function wrong(event) {
	const { hedgerow, ...rest } = event;
	const told = leaves(rest).flatMap(([name, value]) => wrongOfField(name, value));
	if (event.ecs.version !== EcsVersion) told.push(`ecs.version is ${event.ecs.version}, the list's ${EcsVersion}`);
	const present = new Set(leaves(rest).map(([name]) => name));
	const required = Object.values(EcsFlat).filter((field) => field.required).map((field) => field.flat_name);
	told.push(...required.filter((name) => !present.has(name)).map((name) => `${name} is required`));
	if (typeof hedgerow !== "object") told.push("hedgerow is missing");
	return told.concat(wrongTypes(event));
}

const golden = process.argv[2];
const names = fs.readdirSync(golden).filter((name) => /^ecs_.*\.json$/.test(name)).sort();
let count = 0;
for (const name of names) {
	const event = JSON.parse(fs.readFileSync(path.join(golden, name), "utf8"));
	for (const told of wrong(event)) {
		console.error(`ocsf-test: ${name}: ${told}`);
		count += 1;
	}
	// A check that takes anything proves nothing.
	if (wrong({ ...event, severity: 1 }).length === 0 || wrong({ ...event, "@timestamp": 1 }).length === 0) {
		console.error("ocsf-test: a field that ECS doesn't have, or a wrong type, is taken");
		count += 1;
	}
}
if (count > 0 || names.length === 0) process.exit(1);
console.log(`ocsf-test: ${names.length} events are valid ECS ${EcsVersion}`);
