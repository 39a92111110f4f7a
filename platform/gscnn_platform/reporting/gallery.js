// A gallery: <button data-order="KEY"> sorts the .sample elements of #gallery by data-KEY, the largest first; <select
// data-filter="KEY"> shows those whose data-KEY has the word. A click on a figure shows the sample's figures large, each
// from its image's data-full if there is one.
const gallery = document.getElementById("gallery"), samples = [...gallery.children], more = document.getElementById("more");
const zoom = document.getElementById("zoom"), filters = [...document.querySelectorAll("[data-filter]")];
const STEP = Number(gallery.dataset.step);
let limit = STEP, shown = samples;
function show() {
  const fits = sample => filters.every(filter => !filter.value || sample.dataset[filter.dataset.filter].split(" ").includes(filter.value));
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
function enlarge(sample) {
  const all = zoom.querySelector(".all"), figures = [...sample.querySelectorAll("figure")].map(figure => figure.cloneNode(true));
  zoom.querySelector("p").textContent = [...sample.querySelectorAll("header strong, header small")].map(part => part.textContent).join(" · ");
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
  if (!zoom.open) zoom.showModal();
}
gallery.onclick = event => { const figure = event.target.closest("figure"); if (figure) enlarge(figure.closest(".sample")); };
zoom.onclick = () => zoom.close();
zoom.onkeydown = event => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const next = step && shown[shown.indexOf(zoom.sample) + step];
  if (next) { event.preventDefault(); enlarge(next); }
};
