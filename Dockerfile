FROM python:3.11-slim

# What the embedded model's library needs of the system.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY app.py .
COPY chat chat

# Nothing of the program is this user's; /data is.
RUN useradd --uid 1000 --create-home --home-dir /data parley
USER parley
VOLUME /data

ENV CHAT_DATABASE=/data/chat.db \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_ANALYTICS_ENABLED=False \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/data/cache
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/parley/health', timeout=4)"]

# The program itself is process 1 and gets the signal that ends it.
CMD ["python", "app.py"]
