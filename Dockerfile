# docker build -t lit_dqn . && docker run --rm -v "$PWD/lightning_logs:/lit_dqn/lightning_logs" lit_dqn
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make gcc g++ swig git libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
WORKDIR /lit_dqn
COPY . .
RUN make install
CMD ["make", "fit"]
