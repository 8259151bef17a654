// Files that come as folders: a folder that is dropped is read file by file, with the files below it.

// The suffixes that the server looks for in a folder (documents/paths.py); a test holds both lists equal.
const READABLE = [
  ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".pdf", ".jp2", ".j2k",
  ".jpx", ".avif", ".heic", ".heif", ".pnm", ".pbm", ".pgm", ".ppm", ".pcx", ".tga",
];
const MOST = 2000; // files of one drop: more is a mistake

/**
 * Calls `take` with the files of a drop, and with how many were left out: of folders, those that cannot be pages. It must
 * be called at once: the browser empties what was dropped when the event is over.
 */
export function dropped(transfer, take) {
  const entries = [...(transfer.items ?? [])].filter((item) => item.kind === "file").map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  if (entries.some(([entry]) => entry?.isDirectory)) walked(entries).then(({ files, skipped }) => take(files, skipped));
  else take([...transfer.files], 0);
}

const isReadable = (name) => READABLE.some((suffix) => name.toLowerCase().endsWith(suffix));

async function walked(entries) {
  const found = { files: [], skipped: 0 };
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) await walk(entry, found);
    else if (file) found.files.push(file);
  }
  return found;
}

async function walk(folder, found) {
  const reader = folder.createReader();
  const inside = [];
  // Each call lists at most a hundred entries; the last one lists none.
  for (let some; (some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])))).length; ) inside.push(...some);
  inside.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
  for (const entry of inside) {
    if (entry.isDirectory) await walk(entry, found);
    else if (!isReadable(entry.name) || found.files.length >= MOST) found.skipped += 1;
    else {
      const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
      if (file) found.files.push(Object.assign(file, { shownName: entry.fullPath.replace(/^\//, "") }));
      else found.skipped += 1;
    }
  }
}
