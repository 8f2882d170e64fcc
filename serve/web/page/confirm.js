// Asks before something is deleted.

const byId = (id) => document.getElementById(id);

/**
 * True once `remove()` has deleted it, which may be tried again; false if it is kept.
 * `lead` asks, `what` says what will be gone, `yes` stands on the button.
 */
export function confirmDeletion({ lead, what, yes }, remove) {
  const dialog = byId("confirm");
  byId("confirm-lead").textContent = lead;
  byId("confirm-what").textContent = what;
  byId("confirm-yes").textContent = yes;
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
