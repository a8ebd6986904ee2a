// SPDX-License-Identifier: Apache-2.0
// tools/openapi/answers.js DOCUMENT DIR - holds recorded answers (DIR/*.jsonl, t/lib/Brood/Conn.pm) against the document
// with prism's own check, the one that `prism proxy --errors` makes of a live server's answers. Prints each kind of
// violation once, operations that no answer is of, and a last line with counts. Exit status 1: there are violations.
'use strict';
const fs = require('fs');
const path = require('path');
const {getHttpOperationsFromSpec} = require('@stoplight/prism-http');
const {validateOutput} = require('@stoplight/prism-http/dist/validator');
const {matchPath} = require('@stoplight/prism-http/dist/router/matchPath');

const [document, dir] = process.argv.slice(2);

function find(operations, asked) {
    // What leads to a file is one parameter, whatever slashes are in it.
    const at = asked.path.split('?')[0].replace(/^(\/v1\/namespaces\/[^/]*\/files\/)(.+)$/, (all, head, file) => head + file.replace(/\//g, '%2F'));
    let best = null, exists = false;
    for (const o of operations) {
        const match = matchPath(at, o.path);
        if (match._tag !== 'Right' || match.right === 'no-match')
            continue;
        exists = true;
        if (o.method.toUpperCase() === asked.method && (!best || match.right === 'concrete'))
            best = o;
    }
    return {operation: best, exists};
}

(async () => {
    const operations = await getHttpOperationsFromSpec(document);
    const seen = new Set(), violations = new Map();
    let answers = 0;
    for (const file of fs.readdirSync(dir).filter(f => f.endsWith('.jsonl')))
        for (const line of fs.readFileSync(path.join(dir, file), 'utf8').split('\n')) {
            if (!line)
                continue;
            const a = JSON.parse(line);
            const {operation, exists} = find(operations, a);
            const say = why => {
                const text = `${a.method} ${a.path.slice(0, 120)} ${a.status}: ${why}`;
                const kind = `${operation ? operation.path : ''} ${a.method} ${a.status} ${why}`;
                if (!violations.has(kind))
                    violations.set(kind, `${text} (${a.test})`);
            };
            answers++;
            const error = (a.json || {}).error || {};
            if (a.status === 400 && (a.text === 'Bad Request' || error.message === 'the request is not valid HTTP/1.1'))
                continue; // what is no HTTP has no operation; the document says so at its top
            if (!operation) {
                if (a.status !== (exists ? 405 : 404) && a.status !== 400)
                    say('this is not in the document');
                continue;
            }
            seen.add(operation);
            const r = validateOutput({resource: operation, element: {statusCode: a.status, headers: a.headers, body: 'json' in a ? a.json : a.text}});
            if (r._tag === 'Left')
                for (const d of r.left)
                    say(`${(d.path || []).join('.')} ${d.message}`);
        }
    for (const v of violations.values())
        console.log(`violation: ${v}`);
    for (const o of operations.filter(o => !seen.has(o)))
        console.log(`unseen: ${o.method.toUpperCase()} ${o.path}`);
    console.log(`answers ${answers} operations ${seen.size}/${operations.length} violations ${violations.size}`);
    process.exit(violations.size ? 1 : 0);
})().catch(e => { console.log(`violation: ${e.stack}`); process.exit(2); });
