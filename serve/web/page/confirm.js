// Asks before a picture is deleted.

const byId = (id) => document.getElementById(id);

/** True once the picture is deleted by `remove()`, which may be tried again; false if it is kept. */
export function confirmDeletion(prompt, remove) {
  const dialog = byId("confirm");
  byId("confirm-what").textContent = `“${prompt}” and its files will be gone for good.`;
  byId("confirm-fault").textContent = "";
  return new Promise((resolve) => {
    let deleted = false;
    byId("confirm-no").onclick = () => dialog.close();
    byId("confirm-yes").onclick = async () => {
      byId("confirm-yes").disabled = true;
      try {
        await remove();
        deleted = true;
        dialog.close();
      } catch (refused) {
        byId("confirm-fault").textContent = refused.message;
      } finally {
        byId("confirm-yes").disabled = false;
      }
    };
    dialog.onclose = () => resolve(deleted);
    dialog.showModal();
  });
}
