// Finds images in what is dropped, pasted or chosen, and checks them before they are sent.
// Exports: collectFiles, checkFile, checkPixels, formatBytes, loadPreview, releasePreview,
// renewPreview.

const EXTENSIONS = /\.(jpe?g|png|gif|webp|avif|bmp|tiff?|heic|heif|jp2|jfif|ico|ppm|pgm|tga)$/i;

/** Return the files of a drop or a paste, those in folders too, with their paths as names. */
export async function collectFiles(transfer) {
  // Entries must be taken before the first await: the list is emptied then.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry.isDirectory)) return files;
  return (await Promise.all(entries.map(readEntry))).flat();
}

async function readEntry(entry) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    file.path = entry.fullPath.replace(/^\//, "");
    return isImage(file) ? [file] : []; // a folder may hold other files, which nobody dropped
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) break;
    found.push(...batch);
  }
  const { compare } = new Intl.Collator(undefined, { numeric: true });
  found.sort((first, second) => compare(first.name, second.name));
  return (await Promise.all(found.map(readEntry))).flat();
}

function isImage(file) {
  return file.type.startsWith("image/") || EXTENSIONS.test(file.name);
}

/** Return why a file need not be sent, in plain words, or null. */
export function checkFile(file, limits) {
  if (!isImage(file)) return "This is not an image. Choose a JPEG, PNG, WebP or another image.";
  if (file.size === 0) return "This file is empty. Export the image again.";
  if (file.size <= limits.max_image_bytes) return null;
  const [size, most] = [file.size, limits.max_image_bytes].map(formatBytes);
  return `This image has ${size}; the server takes ${most}. Save a smaller copy, and add that.`;
}

/** Return why an image of this size need not be sent, or null. */
export function checkPixels(width, height, limits) {
  if (width * height <= limits.max_pixels) return null;
  const [size, most] = [width * height, limits.max_pixels].map(
    (pixels) => `${Math.round(pixels / 1e6)} megapixels`,
  );
  return `This image has ${size}; the server takes ${most}. Save a smaller copy, and add that.`;
}

/** Return a number of bytes as people write it. */
export function formatBytes(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1024))} kB`;
  return `${Math.round((10 * bytes) / 2 ** 20) / 10} MB`;
}

/** Return an image of a file, or null where the browser cannot show it, such as HEIC or TIFF. */
export async function loadPreview(file) {
  const image = new Image();
  image.decoding = "async";
  image.src = URL.createObjectURL(file);
  return new Promise((resolve) => {
    image.onload = () => resolve(image);
    image.onerror = () => {
      URL.revokeObjectURL(image.src);
      resolve(null);
    };
  });
}

/** Let the browser forget the file of an image that was removed. */
export function releasePreview(image) {
  if (image) URL.revokeObjectURL(image.src);
}

/** Show a file again whose image was released. */
export function renewPreview(image, file) {
  if (image) image.src = URL.createObjectURL(file);
}
