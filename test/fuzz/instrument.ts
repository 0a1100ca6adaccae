/**
 * The readers as one file that counts where it goes: the compiled targets, bundled, with a counter at every function, branch, loop
 * and case. Compiled code and not V8's own coverage, whose answer after each input takes longer than the input.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import ts from 'typescript';

const fromHere = (path: string) => fileURLToPath(new URL(path, import.meta.url));
export const BUNDLE = fromHere('../../fuzz/readers.cjs');
/** What the bundle counts into, on the global object. */
export const COUNTERS = '__vmsnapCounters';

/** @returns how many counters there are. */
export async function buildReaders(): Promise<number> {
  await build({
    entryPoints: [fromHere('targets.js')],
    outfile: BUNDLE,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20.19',
    packages: 'external',
    plugins: [
      {
        name: 'in-thread',
        setup(bundler) {
          bundler.onResolve({ filter: /\/workerPool\.js$/ }, () => ({ path: fromHere('inThread.js') }));
        },
      },
    ],
    supported: { 'dynamic-import': false },
    define: { 'import.meta.url': 'bundleUrl' },
    banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
    logLevel: 'warning',
  });
  const { text, count } = withCounters(readFileSync(BUNDLE, 'utf8'));
  writeFileSync(BUNDLE, text);
  return count;
}

export function withCounters(source: string): { text: string; count: number } {
  const file = ts.createSourceFile('readers.cjs', source, ts.ScriptTarget.Latest, true, ts.ScriptKind.JS);
  let count = 0;
  const transformer: ts.TransformerFactory<ts.SourceFile> = (context) => {
    const { factory } = context;
    const counter = () => {
      const name = factory.createIdentifier(COUNTERS);
      return factory.createPostfixIncrement(factory.createElementAccessExpression(name, count++));
    };
    const counted = (statements: readonly ts.Statement[]) => [
      factory.createExpressionStatement(counter()),
      ...statements,
    ];
    const branch = (statement: ts.Statement) =>
      ts.isBlock(statement) ? statement : factory.createBlock(counted([statement]));
    const value = (expression: ts.Expression) =>
      factory.createParenthesizedExpression(factory.createComma(counter(), expression));
    const visit = (node: ts.Node): ts.Node => {
      const seen = ts.visitEachChild(node, visit, context);
      if (ts.isBlock(seen)) return factory.createBlock(counted(seen.statements), true);
      if (ts.isIfStatement(seen))
        return factory.updateIfStatement(
          seen,
          seen.expression,
          branch(seen.thenStatement),
          seen.elseStatement && branch(seen.elseStatement),
        );
      if (ts.isForStatement(seen))
        return factory.updateForStatement(
          seen,
          seen.initializer,
          seen.condition,
          seen.incrementor,
          branch(seen.statement),
        );
      if (ts.isForOfStatement(seen))
        return factory.updateForOfStatement(
          seen,
          seen.awaitModifier,
          seen.initializer,
          seen.expression,
          branch(seen.statement),
        );
      if (ts.isWhileStatement(seen)) return factory.updateWhileStatement(seen, seen.expression, branch(seen.statement));
      if (ts.isCaseClause(seen)) return factory.updateCaseClause(seen, seen.expression, counted(seen.statements));
      if (ts.isDefaultClause(seen)) return factory.updateDefaultClause(seen, counted(seen.statements));
      if (ts.isConditionalExpression(seen))
        return factory.updateConditionalExpression(
          seen,
          seen.condition,
          seen.questionToken,
          value(seen.whenTrue),
          seen.colonToken,
          value(seen.whenFalse),
        );
      if (ts.isBinaryExpression(seen) && isLogical(seen.operatorToken.kind))
        return factory.updateBinaryExpression(seen, seen.left, seen.operatorToken, value(seen.right));
      return seen;
    };
    return (root) => ts.visitEachChild(root, visit, context);
  };
  const [changed] = ts.transform(file, [transformer]).transformed;
  return { text: ts.createPrinter().printFile(changed!), count };
}

function isLogical(kind: ts.SyntaxKind): boolean {
  return (
    kind === ts.SyntaxKind.AmpersandAmpersandToken ||
    kind === ts.SyntaxKind.BarBarToken ||
    kind === ts.SyntaxKind.QuestionQuestionToken
  );
}
