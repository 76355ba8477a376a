// The line under the message box that says how safe the conversations are; it is asked for once a minute.

const parleyBackup = {
  start(props) {
    const address = new URL((window.gradio_config?.root ?? "") + "/parley/backup", location.href);
    async function ask() {
      if (document.hidden) return;
      const answer = await fetch(address).catch(() => null); // The page says otherwise that the server is away.
      if (answer?.ok) props.value = (await answer.json()).line;
    }
    ask();
    setInterval(ask, 60_000);
    document.addEventListener("visibilitychange", ask);
  },
};
