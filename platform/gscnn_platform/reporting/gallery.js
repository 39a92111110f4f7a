// A gallery. <button data-order="KEY"> sorts the .sample elements of #gallery by data-KEY, the largest first. <select
// data-filter="KEY"> shows those whose data-KEY is the value or has it among its words. A click on a figure shows the
// figures of its sample large, each from its image's data-full if there is one.
const gallery = document.getElementById("gallery"), samples = [...gallery.children], more = document.getElementById("more");
const zoom = document.getElementById("zoom"), filters = [...document.querySelectorAll("[data-filter]")];
const STEP = Number(gallery.dataset.step);
let limit = STEP, shown = samples, neighbours = samples;
function show() {
  const has = (words, word) => !word || words === word || words.split(" ").includes(word);
  const fits = sample => filters.every(filter => has(sample.dataset[filter.dataset.filter], filter.value));
  shown = [...gallery.children].filter(fits);
  samples.forEach(sample => sample.hidden = true);
  shown.slice(0, limit).forEach(sample => sample.hidden = false);
  more.hidden = shown.length <= limit;
  document.getElementById("count").textContent = `${Math.min(limit, shown.length)} of ${shown.length}`;
}
function sort(key) {
  document.querySelectorAll("[data-order]").forEach(button => button.classList.toggle("on", button.dataset.order === key));
  [...samples].sort((one, other) => other.dataset[key] - one.dataset[key]).forEach(sample => gallery.append(sample));
  limit = STEP;
  show();
}
document.querySelectorAll("[data-order]").forEach(button => button.onclick = () => sort(button.dataset.order));
filters.forEach(filter => filter.onchange = () => { limit = STEP; show(); });
more.onclick = () => { limit += STEP; show(); };
function follow() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (!target || !samples.includes(target)) return;
  if (!shown.includes(target)) { filters.forEach(filter => filter.value = ""); show(); }
  limit = Math.max(limit, shown.indexOf(target) + 1);
  show();
  target.scrollIntoView();
}
addEventListener("hashchange", follow);
function enlarge(sample, among) {
  const all = zoom.querySelector(".all"), figures = [...sample.querySelectorAll("figure")].map(figure => figure.cloneNode(true));
  zoom.querySelector("p").textContent = [...sample.querySelectorAll("strong, small")].map(part => part.textContent).join(" · ");
  figures.forEach(figure => {
    const image = figure.querySelector("img");
    image.loading = "eager";
    if (image.dataset.full) image.src = image.dataset.full;
    if (figures.length > 1) figure.onclick = event => {
      event.stopPropagation();
      all.classList.toggle("one");
      figures.forEach(other => other.classList.toggle("on", other === figure));
    };
  });
  figures[0].classList.add("on");
  all.classList.toggle("one", figures.length === 1);
  all.replaceChildren(...figures);
  zoom.sample = sample;
  neighbours = among;
  if (!zoom.open) zoom.showModal();
}
function zoomable(root, selector, among) {
  root.onclick = event => { const figure = event.target.closest("figure"); if (figure) enlarge(figure.closest(selector), among()); };
}
zoomable(gallery, ".sample", () => shown);
zoom.onclick = () => zoom.close();
zoom.onkeydown = event => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const next = step && neighbours[neighbours.indexOf(zoom.sample) + step];
  if (next) { event.preventDefault(); enlarge(next, neighbours); }
};
