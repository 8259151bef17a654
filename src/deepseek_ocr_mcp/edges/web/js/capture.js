// Pictures that are taken here: by a camera of this machine, or of a screen, a window or a tab.

import { $, h, toast } from "./dom.js";
import { t } from "./i18n.js";

const LARGEST = { width: { ideal: 3840 }, height: { ideal: 2160 } }; // px: a page of A4 at 300 dpi has 2480 by 3508
const QUALITY = 0.92;

const clock = () => new Date().toTimeString().slice(0, 8).replaceAll(":", ".");

/** Whether the page itself can take a picture. On a phone the file input opens the phone's camera, which is better. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia) && !matchMedia("(pointer: coarse)").matches;

export const hasScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia) && !matchMedia("(pointer: coarse)").matches;

export const named = (key, type) => `${t(key)} ${clock()}.${type === "image/png" ? "png" : "jpg"}`;

const stop = (stream) => stream?.getTracks().forEach((track) => track.stop());

/** The picture that a video shows now, as a file. */
async function still(video, key, type) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, QUALITY));
  return new File([blob], named(key, type), { type });
}

/** One picture of a screen, a window or a tab that the reader chooses; null: the reader has cancelled. */
export async function screenshot() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: false });
  } catch {
    return null;
  }
  try {
    const video = h("video", { muted: true });
    video.srcObject = stream;
    await video.play();
    return await still(video, "screenshotName", "image/png");
  } finally {
    stop(stream);
  }
}

/** The dialog with the live picture of a camera. `onPicture(file)` gets each picture; the camera is on only while it is open. */
export function startCamera(onPicture) {
  const dialog = $("#camera-dialog");
  const video = $("#camera-view");
  const choice = $("#camera-choice");
  let stream = null;
  let taken = 0;

  async function show(deviceId = "") {
    stop(stream);
    const which = deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "environment" };
    stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { ...which, ...LARGEST } });
    if (!dialog.open) return stop(stream);
    video.srcObject = stream;
    await video.play();
    $("#camera-take").removeAttribute("aria-disabled");
  }

  /** The names of the cameras are told once one may be used. */
  async function list() {
    const cameras = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
    choice.replaceChildren(...cameras.map((device, n) => new Option(device.label || t("camera.n", { n: n + 1 }), device.deviceId)));
    const used = stream?.getVideoTracks()[0]?.getSettings().deviceId;
    if (used) choice.value = used;
    $("#camera-field").hidden = cameras.length < 2;
  }

  const failed = (error) => {
    dialog.close();
    toast(t(error.name === "NotAllowedError" ? "camera.refused" : "camera.none"), "bad");
  };

  dialog.addEventListener("close", () => {
    stop(stream);
    stream = video.srcObject = null;
  });
  dialog.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!stream || $("#camera-take").getAttribute("aria-disabled") === "true") return;
    taken += 1;
    $("#camera-count").textContent = t("camera.taken", { n: taken });
    onPicture(await still(video, "photoName", "image/jpeg"));
  });
  choice.addEventListener("change", () => show(choice.value).catch(failed));
  $("#camera-end").addEventListener("click", () => dialog.close());

  return async () => {
    taken = 0;
    $("#camera-count").textContent = "";
    $("#camera-field").hidden = true;
    $("#camera-take").setAttribute("aria-disabled", "true");
    dialog.showModal();
    $("#camera-take").focus();
    try {
      await show();
      await list();
    } catch (error) {
      failed(error);
    }
  };
}
