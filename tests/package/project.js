// A project outside of the repository, which has installed the package from its tarball.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HERE = join(ROOT, 'tests/package');
export const SOURCE = join(ROOT, 'src/browser');

const run = promisify(execFile);

/** Packs the package. Returns the tarball and the names of the files in it. */
export async function pack(folder) {
  const { stdout } = await run('npm', ['pack', SOURCE, '--json', '--pack-destination', folder]);
  // A list until npm 11, an object since.
  const [{ filename, files }] = Object.values(JSON.parse(stdout));
  return { tarball: join(folder, filename), files: files.map(({ path }) => path) };
}

/** Creates a project from one of the folders here, and installs the tarball. */
export async function createProject(parent, name, tarball) {
  const project = join(parent, name);
  await cp(join(HERE, name), project, { recursive: true });
  await writeFile(join(project, 'package.json'), JSON.stringify({ type: 'module', private: true }));
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: project });
  await symlink(join(HERE, 'node_modules/@types'), join(project, 'node_modules/@types'));
  return project;
}

/** Checks the types of a project. */
export async function checkTypes(project) {
  const compiler = join(HERE, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [compiler, '--project', project]).catch(({ stdout, message }) => {
    throw new Error(stdout || message);
  });
}

/** The code of the README in this language. */
export async function readmeExample(language) {
  const readme = await readFile(join(SOURCE, 'README.md'), 'utf8');
  const [, code] = readme.match(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'ms'));
  return code;
}

/** Starts a program that runs until the test is over. Returns the first line that it prints. */
export async function start(t, command, args, options) {
  const program = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(program, 'close');
  t.after(() => {
    program.kill();
    return ended;
  });
  const lines = createInterface({ input: program.stdout })[Symbol.asyncIterator]();
  const { value, done } = await lines.next();
  if (done) throw new Error(`${command} has ended`);
  return value;
}

/** Starts a server with these options, and returns the address of its WebSocket. `features` are flags for cargo. */
export async function startServer(t, options = [], features = []) {
  const args = ['--listen', '127.0.0.1:0', ...options];
  const binaries = process.env.CHAT_BINARIES;
  const line = await (binaries
    ? start(t, join(binaries, 'standalone'), args, { cwd: ROOT })
    : start(t, 'cargo', ['run', '--quiet', '--package', 'standalone', ...features, '--', ...args], { cwd: ROOT }));
  return line.match(/http:\S+/)[0].replace('http', 'ws');
}
